"""The network in every precision that was asked for, with the images each makes of the evaluation faces.

Every form restores these faces once; figures, warnings and golden outputs are taken from the same images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from data.ranges import uint8_to_model
from evaluation.metrics.image_metrics import psnr
from evaluation.reports.tables import changes_in_words
from evaluation.statistics import mean_difference_interval
from export.bundle.contents import INTEGER_ONNX_NAME, INTEGER_TORCHSCRIPT_NAME, FormResult, LayerEntry
from export.bundle.faces import BundleFaces
from export.formats import artefacts
from export.formats.integer_engine import write_integer_onnx
from export.formats.options import ExportSettings
from export.int8.layer_selection import NO_BUDGET
from export.int8.quantization import QuantizationSettings, QuantizedNetwork, quantize
from export.int8.simulation import BATCH_SIZE, Quality, face_qualities
from export.static.graph import Layer, ValueRange, half_risks, map_layers, record_ranges, simulate_half
from export.static.network import StaticGPEN
from inference.restorers import load_restorer
from models import GPEN
from system.live_progress import OnStep
from system.machine import processor


@dataclass(frozen=True)
class PrecisionForms:
    """All forms of one network."""

    layers: tuple[LayerEntry, ...]
    """The layer map, with the precision of each layer."""
    restored: Mapping[str, Tensor]
    """Form to what it makes of the evaluation faces, [N, 3, R, R]; `float32` first."""
    results: tuple[FormResult, ...]
    golden_forms: Mapping[str, str]
    """Precision to the form whose images the card should give in it."""
    quantized: QuantizedNetwork | None
    """int8 as the card computes it; None without."""
    ranges: Mapping[str, ValueRange]
    """Values of every module, where fp16 was asked for."""
    differences: Mapping[str, artefacts.ImageDifference]
    """Difference of the trace that int8 is compiled from, to the network that was traced."""
    warnings: tuple[str, ...]


def make_forms(
    folder: Path, generator: GPEN, network: StaticGPEN, faces: BundleFaces, settings: ExportSettings, on_step: OnStep
) -> PrecisionForms:
    """Restores the evaluation faces in every precision and writes the artefacts of int8 into the bundle's folder.
    Raises ValueError where one of these differs from what was simulated."""
    degraded, layers = uint8_to_model(faces.evaluation.degraded), map_layers(network)
    restored = {"float32": artefacts.restore_images(network, degraded, "restoring in float32", on_step, BATCH_SIZE)}
    golden_forms = {"float32": "float32"}
    ranges: Mapping[str, ValueRange] = {}
    differences: dict[str, artefacts.ImageDifference] = {}
    card: QuantizedNetwork | None = None
    if "fp16" in settings.precision:
        golden_forms["fp16"] = "fp16, simulated"
        restored["fp16, simulated"] = artefacts.restore_images(
            simulate_half(network), degraded, "restoring in fp16", on_step, BATCH_SIZE
        )
        ranges = record_ranges(network, uint8_to_model(faces.golden.degraded))
    if "int8" in settings.precision:
        name = f"int8 ({settings.calibration_mode})"
        golden_forms["int8"] = f"{name}, simulated"
        card, differences[INTEGER_TORCHSCRIPT_NAME] = _quantize_for_card(
            folder, network, layers, faces, settings, on_step
        )
        on_step("restoring in int8, as the card")
        restored[f"{name}, simulated"] = card.simulate(faces.evaluation.degraded)
        restored[f"{name}, onnxruntime"] = _run_in_integers(folder, generator, faces, settings, on_step)
    target, by_float = faces.evaluation.target, restored["float32"]
    measured = {form: face_qualities(images, target, by_float) for form, images in restored.items()}
    means = {form: Quality(*values.mean(dim=0).tolist()) for form, values in measured.items()}
    results = tuple(FormResult(f, q.psnr_to_float, q if faces.has_targets else None) for f, q in means.items())
    warnings = [*harms(measured["float32"][:, 0], faces), *half_risks(ranges)]
    warnings += [*missed_budgets(results, settings.quantization()), *_unreachable(layers, card)]
    entries = tuple(_entry(layer, layers, card) for layer in layers)
    return PrecisionForms(entries, restored, results, golden_forms, card, ranges, differences, tuple(warnings))


def _quantize_for_card(
    folder: Path,
    network: StaticGPEN,
    layers: Sequence[Layer],
    faces: BundleFaces,
    settings: ExportSettings,
    on_step: OnStep,
) -> tuple[QuantizedNetwork, artefacts.ImageDifference]:
    """int8 as the card computes it, and how far the trace that it is compiled from is from what was traced."""
    assert faces.calibration is not None  # int8 without faces was refused
    card = quantize(network, layers, faces.calibration, settings.quantization(), on_step, faces.range_faces)
    on_step("tracing what int8 is compiled from")
    artefacts.write_torchscript(folder / INTEGER_TORCHSCRIPT_NAME, card.network)
    restorer = load_restorer(folder / INTEGER_TORCHSCRIPT_NAME)
    images = uint8_to_model(faces.golden.degraded)
    pair = (artefacts.restore_images(network, images, "comparing it", on_step) for network in (restorer, card.network))
    difference = artefacts.image_difference(*pair)
    artefacts.check_difference(INTEGER_TORCHSCRIPT_NAME, difference)
    return card, difference


def _run_in_integers(
    folder: Path, generator: GPEN, faces: BundleFaces, settings: ExportSettings, on_step: OnStep
) -> Tensor:
    assert faces.calibration is not None  # int8 without faces was refused
    # onnxruntime has integer kernels for ordinary convolutions only, and its own arithmetic between them.
    shuffled = StaticGPEN(generator, "pixel_shuffle")
    chosen = replace(settings.quantization(), target="onnxruntime", budget=NO_BUDGET)
    engine = quantize(shuffled, map_layers(shuffled), faces.calibration, chosen, on_step, faces.range_faces)
    write_integer_onnx(folder / INTEGER_ONNX_NAME, engine.network, engine.grids)
    restorer = load_restorer(folder / INTEGER_ONNX_NAME)
    degraded = uint8_to_model(faces.evaluation.degraded)
    return artefacts.restore_images(restorer, degraded, "restoring in int8 by onnxruntime", on_step)


def harms(after: Tensor, faces: BundleFaces) -> list[str]:
    """Says so where the network, by the PSNR [N] of what it restored, makes the evaluation faces worse than they came,
    beyond chance."""
    if not faces.has_targets:
        return []
    before = psnr(faces.evaluation.degraded, faces.evaluation.target)
    worse, _ = changes_in_words({"psnr": mean_difference_interval(after.tolist(), before.tolist())})
    advice = "train longer, or export under the preset that the network was trained on (--degradation)"
    return [f"the restored faces are worse than the degraded ones: {worse} these; {advice}"] if worse else []


def missed_budgets(results: Sequence[FormResult], settings: QuantizationSettings) -> list[str]:
    """Names every form of int8 that costs more than was allowed."""
    by_float, budget, warnings = results[0].quality, settings.budget, []
    for result in results:
        if not result.form.startswith("int8") or budget.largest_drop_db is None:
            continue
        assert by_float is not None and result.quality is not None  # int8 without faces was refused
        if budget.is_met(result.quality, by_float):
            continue
        where, advice = "", "--largest-float-flops, --rounding-iterations or quantization-aware fine-tuning"
        if result.form.endswith("onnxruntime"):
            where, advice = f", run on {processor()}", "another --calibration-mode or quantization-aware fine-tuning"
        warnings.append(
            f"{result.form}{where} misses its budget: {by_float.psnr - result.quality.psnr:.3f} dB below float and "
            f"{result.psnr_to_float:.1f} dB from it, {budget.largest_drop_db:g} at most and at least "
            f"{budget.least_psnr_to_float_db:g} are allowed; try {advice}"
        )
    return warnings


def _unreachable(layers: Sequence[Layer], quantized: QuantizedNetwork | None) -> list[str]:
    """Says so if a layer should be excluded that the compiler cannot be told to exclude."""
    reasons = {} if quantized is None else quantized.reasons
    names = [layer.name for layer in layers if layer.name in reasons and layer.conv2d_index is None]
    if not names:
        return []
    return [
        f"{', '.join(names)} should stay out of int8 but has no number that exclude_layers could name; export with "
        "--upsampling pixel_shuffle, whose convolutions all have one"
    ]


def _entry(layer: Layer, layers: Sequence[Layer], quantized: QuantizedNetwork | None) -> LayerEntry:
    outputs = tuple(other.name for other in layers if layer.name in other.inputs) or ("output",)
    if quantized is None:
        return LayerEntry(layer, outputs, "float32", "int8 was not asked for", None, None)
    reason = "a convolution; nothing is gained that the budget asks for by leaving it in float"
    if layer.kind == "linear":
        reason = "linear layers stay in floating point, as TVM's relay.quantize leaves dense layers by default"
    name = layer.name
    ranges = quantized.input_ranges.get(name), quantized.output_ranges.get(name)
    return LayerEntry(layer, outputs, quantized.precisions[name], quantized.reasons.get(name, reason), *ranges)
