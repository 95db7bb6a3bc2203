"""A trained network as a folder of artefacts that were run and compared before anyone sees them."""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from data.faces.listing import with_listed
from data.ranges import uint8_to_model
from export.bundle.contents import ARTEFACTS, BUNDLE_NAMES, CHECKSUMS_NAME, FLOAT_ARTEFACTS, REPORT_NAME, ExportReport
from export.bundle.faces import BundleFaces, choose_faces, training_record
from export.bundle.files import write_bundle_files
from export.bundle.precision_forms import PrecisionForms, make_forms
from export.formats import artefacts
from export.formats.options import ExportSettings, ParityFaces
from export.static.graph import count_cost
from export.static.network import StaticGPEN
from inference.restorers import load_restorer
from models import GPEN, Architecture, StoredNetworks, build_generator, read_checkpoint, save_release
from system import machine
from system.atomic_file import ASIDE_PREFIX, replacing_outputs
from system.live_progress import OnStep, ignore_step, sharing
from system.paths import check_apart, check_output_folder


def export_bundle(
    checkpoint: Path | str,
    output: Path | str,
    compare_on: ParityFaces | None = None,
    settings: ExportSettings | None = None,
    overwrite: bool = False,
    on_step: OnStep = ignore_step,
) -> ExportReport:
    """Writes a bundle of the EMA weights of any file that `models.load_generator` reads; every artefact in it was run
    and compared with the network.

    Without faces it is compared on smooth synthetic images; without settings it holds float artefacts only. Nothing
    appears at the target before all have passed; report.json comes last and marks a bundle as complete. `overwrite`
    replaces the files of a bundle that is there already; other files in the folder stay. ValueError or OSError where an
    input is wrong or missing, the target exists, or an artefact differs too much.
    """
    output, compare_on = Path(output), compare_on or ParityFaces()
    settings = (settings or ExportSettings(("float32",))).completed(compare_on.faces is not None)
    artefacts.check_opset(settings.opset)
    settings.quantization()  # refuses numbers out of range before anything is computed
    check_output_folder(output, overwrite)
    read = {"checkpoint": Path(checkpoint), "faces": compare_on.faces, "calibration": settings.calibration}
    read["degradation"] = Path(compare_on.degradation)
    inputs = {f"which is read (--{name})": path for name, path in read.items() if path is not None and path.exists()}
    _check_replaceable(output, inputs)
    stored = read_checkpoint(checkpoint)
    generator, card = build_generator(stored), stored.card
    on_step("reading and degrading faces")
    record = training_record(stored.path)
    faces = choose_faces(compare_on, settings, generator.architecture.resolution, record)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as temporary:
        folder = Path(temporary)
        on_step = sharing(on_step, _costs(faces, settings, generator.architecture))
        network = _write_artefacts(folder, generator, card, settings, on_step)
        differences = _compare(folder, generator, uint8_to_model(faces.golden.degraded), on_step)
        forms = make_forms(folder, generator, network, faces, settings, on_step)
        report = _report(folder, stored, faces, forms, differences, settings)
        on_step("writing settings, faces and reports")
        write_bundle_files(folder, report, faces, forms, settings)
        _write_checksums(folder)
        _move_in(folder, output)
    return report


def _check_replaceable(output: Path, inputs: Mapping[str, Path]) -> None:
    found = [output / name for name in BUNDLE_NAMES if (output / name).exists()]
    is_bundle = any((output / name).exists() for name in (REPORT_NAME, CHECKSUMS_NAME))
    if found and not is_bundle and not any(output.glob(f"{ASIDE_PREFIX}*")):
        raise ValueError(
            f"{output} holds {found[0].name} but no bundle ({REPORT_NAME}), so that nothing in it is replaced; name "
            "another folder, or move those files elsewhere"
        )
    check_apart(found, with_listed(inputs), "--overwrite")


def _costs(faces: BundleFaces, settings: ExportSettings, architecture: Architecture) -> list[tuple[str, float]]:
    """The steps of an export, and about what each costs, measured in passes of one face through the network."""
    golden, evaluation = len(faces.golden.names), len(faces.evaluation.names)
    steps: list[tuple[str, float]] = [
        ("restoring what", golden),
        *[("comparing", golden)] * len(FLOAT_ARTEFACTS),
        ("restoring in", evaluation),
    ]
    if "fp16" in settings.precision:
        steps.append(("restoring in fp16", 2 * evaluation))
    if faces.calibration is not None and faces.calibrated_on is not None:
        number, convolutions = len(faces.calibrated_on.names), 7 * len(architecture.resolutions) - 4
        prepare: list[tuple[str, float]] = [("rescaling", 2 * number), ("calibrating", 3 * number)]
        correct: list[tuple[str, float]] = [("correcting", 2 * number)]
        if iterations := settings.rounding_iterations:
            correct.insert(0, ("learning", convolutions * (iterations + 2 * number)))
        measured = min(settings.sensitivity_faces, len(faces.calibration.names)) * convolutions
        if settings.largest_float_flops == 0:
            measured = 0
        steps += [*prepare, ("measuring what", 1.5 * measured), *correct, ("restoring in int8, as", 2 * evaluation)]
        steps += [*prepare, *correct, ("restoring in int8 by", 2 * evaluation)]
    return steps


def _write_artefacts(
    folder: Path, generator: GPEN, card: Mapping[str, str], settings: ExportSettings, on_step: OnStep
) -> StaticGPEN:
    on_step("writing safetensors")
    save_release(folder / artefacts.SAFETENSORS_NAME, generator, card=card, numbers="float32")
    network = StaticGPEN(generator, settings.upsampling)
    on_step("tracing for TorchScript")
    artefacts.write_torchscript(folder / artefacts.TORCHSCRIPT_NAME, network)
    on_step("writing ONNX")
    artefacts.write_onnx(folder / artefacts.ONNX_NAME, network, settings.opset)
    artefacts.write_onnx(folder / artefacts.COMPILER_ONNX_NAME, network, artefacts.COMPILER_OPSET)
    return network


def _compare(folder: Path, generator: GPEN, images: Tensor, on_step: OnStep) -> dict[str, artefacts.ImageDifference]:
    differences = {}
    expected = artefacts.restore_images(generator, images, "restoring what artefacts are compared with", on_step)
    for name in FLOAT_ARTEFACTS:
        restorer, words = load_restorer(folder / name), f"comparing {name} with the network"
        differences[name] = artefacts.image_difference(
            artefacts.restore_images(restorer, images, words, on_step), expected
        )
        artefacts.check_difference(name, differences[name])
    return differences


def _report(
    folder: Path,
    stored: StoredNetworks,
    faces: BundleFaces,
    forms: PrecisionForms,
    differences: Mapping[str, artefacts.ImageDifference],
    settings: ExportSettings,
) -> ExportReport:
    cost, calibrated_on = count_cost(stored.architecture, settings.upsampling), faces.calibrated_on
    return ExportReport(
        checkpoint=stored.path.name,
        card=stored.card,
        architecture=stored.architecture,
        resolution=stored.architecture.resolution,
        precisions=settings.precision,
        upsampling=settings.upsampling,
        opset=settings.opset,
        flops=cost.flops,
        parameters=cost.parameters,
        cost_by_kind=cost.kinds,
        images=faces.used,
        differences={**differences, **forms.differences},
        num_calibration=0 if calibrated_on is None else len(calibrated_on.names),
        num_evaluation=len(faces.evaluation.names),
        evaluated_on=faces.evaluated_on,
        results=forms.results,
        int8_flops_share=None if forms.quantized is None else forms.quantized.integer_flops,
        ranges=forms.ranges,
        warnings=(*faces.warnings, *forms.warnings),
        sha256={name: _digest(folder / name) for name in ARTEFACTS if (folder / name).is_file()},
        versions=machine.versions(("torch", "onnx", "onnxruntime", "safetensors", "numpy")),
        processor=machine.processor(),
    )


def _write_checksums(folder: Path) -> None:
    """Writes what `sha256sum --check` reads, for every file but report.json, which is the mark of completeness."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != REPORT_NAME)
    lines = "".join(f"{_digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in files)
    (folder / CHECKSUMS_NAME).write_text(lines, encoding="utf-8")


def _move_in(folder: Path, output: Path) -> None:
    """Moves files and folders to their place, the mark of completeness last; without it the bundle is not valid."""
    output.mkdir(exist_ok=True)
    names = sorted((path.name for path in folder.iterdir()), key=lambda name: name == REPORT_NAME)
    with replacing_outputs(output, sorted(BUNDLE_NAMES, key=lambda name: name != REPORT_NAME)):  # all of an older one
        for name in names:
            os.replace(folder / name, output / name)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
