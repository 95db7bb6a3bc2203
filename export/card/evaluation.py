"""How far a card's images are from those it should have made, and what may be wrong."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.dataset import FaceImages
from data.faces.files import FaceFiles, Pictures
from data.ranges import model_to_uint8, uint8_to_model
from evaluation.metrics.image_metrics import psnr
from export.bundle import contents
from export.bundle.faces import read_array
from export.card.fault_location import Suspect, locate_fault
from export.formats.artefacts import SAFETENSORS_NAME
from export.formats.options import Precision
from export.int8.simulation import calibration_ranges, choose_grids, simulate
from export.static.graph import map_layers
from export.static.network import StaticGPEN
from models import load_generator
from system.live_progress import OnStep
from system.wording import counted

TOLERANCE_DB = 1.0
"""How much further from the float images than the simulation a card may be: it adds and rounds in another order."""
ENOUGH_DB = {"float32": 60.0, "fp16": 60.0, "int8": float("inf")}
"""Nearer than this to the float images nothing is wrong, however near the simulation is."""
SUSPICIOUS_DB = 12.0
"""So much nearer to the float images than the simulation is none of its arithmetic: a quarter of its error."""
NUM_FAULT_FACES = 8


@dataclass(frozen=True)
class GoldenBundle:
    """The part of a bundle that outputs are compared with."""

    folder: Path
    resolution: int
    precisions: tuple[Precision, ...]
    """In the bundle, from float32 to int8."""
    stems: tuple[str, ...]
    """Names of the golden faces in the order of their list."""
    degraded: Tensor
    """uint8 [N, 3, R, R]."""
    outputs: dict[Precision, Tensor]
    """What each precision should make of them, [N, 3, R, R]."""
    targets: Tensor | None
    """Clean faces, uint8 [N, 3, R, R]; None where there were none."""


@dataclass(frozen=True)
class FaceComparison:
    """One face; PSNR in dB of 8-bit images."""

    name: str
    to_float: float
    """Card against the golden output of the float network."""
    to_expected: float
    """Card against the golden output of the card's precision."""
    to_clean: float | None
    """Card against the clean face."""
    float_to_clean: float | None
    """Float network against the clean face."""


@dataclass(frozen=True)
class CardEvaluation:
    """All faces."""

    precision: Precision
    faces: tuple[FaceComparison, ...]
    mean: FaceComparison
    is_different: bool
    """Whether the card is further from float than its precision explains."""
    verdict: str

    def as_json(self, suspects: list[Suspect]) -> dict[str, object]:
        """Everything as it goes into a file."""
        return {**asdict(self), "suspects": [asdict(suspect) for suspect in suspects]}


def read_bundle(folder: Path) -> GoldenBundle:
    """Reads the golden faces of a bundle; FileNotFoundError where the folder is no complete bundle, ValueError where a
    file in it is damaged."""
    about, golden = folder / contents.REPORT_NAME, folder / contents.GOLDEN_NAME
    if not about.is_file():
        raise FileNotFoundError(f"{folder} must be a complete bundle, it has no {about.name}; export it again")
    try:
        report = json.loads(about.read_text(encoding="utf-8"))
        resolution, asked = int(report["resolution"]), list(report["precisions"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{about} is damaged ({error}); export the bundle again") from error
    listing, inputs, made = (golden / n for n in (contents.LIST_NAME, contents.INPUTS_NAME, contents.OUTPUTS_NAME))
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else []
    stems = tuple(Path(line).stem for line in lines if line)
    if not stems:
        raise ValueError(f"{listing} must name the golden faces, but names none; export the bundle again")
    every: tuple[Precision, ...] = ("float32", "fp16", "int8")
    precisions, key = tuple(name for name in every if name == "float32" or name in asked), contents.OUTPUT_KEY
    outputs = {name: torch.cat([_tensor(made / name / f"{stem}.npz", key) for stem in stems]) for name in precisions}
    degraded = torch.stack([_tensor(inputs / f"{stem}.npz", contents.INPUT_KEY) for stem in stems])
    targets = None
    if (golden / contents.TARGETS_NAME).is_dir():
        targets = _images(golden / contents.TARGETS_NAME, [f"{stem}.png" for stem in stems], resolution)
    return GoldenBundle(folder, resolution, precisions, stems, degraded, outputs, targets)


def evaluate_card(bundle: GoldenBundle, precision: Precision, outputs: Tensor) -> CardEvaluation:
    """Compares what the card made in a precision, [N, 3, R, R] in the order of the golden faces, with what it should
    have made. Raises ValueError where the bundle was not exported for that precision."""
    if precision not in bundle.outputs:
        raise ValueError(
            f"the bundle holds {', '.join(bundle.precisions)}, got {precision}; export it with that precision"
        )
    finite = torch.isfinite(outputs).flatten(1).all(dim=1)
    card, exact, expected = (
        model_to_uint8(x.nan_to_num()) for x in (outputs, bundle.outputs["float32"], bundle.outputs[precision])
    )
    columns = [psnr(card, exact), psnr(card, expected)]
    clean = [] if bundle.targets is None else [psnr(card, bundle.targets), psnr(exact, bundle.targets)]
    rows = torch.stack(columns + clean, dim=1)  # [N, 2 or 4]
    faces = tuple(_comparison(name, row) for name, row in zip(bundle.stems, rows, strict=True))
    mean = _comparison("mean", rows.mean(dim=0))
    simulated = float(psnr(expected, exact).mean())
    threshold = min(simulated, ENOUGH_DB[precision]) - TOLERANCE_DB
    is_different = mean.to_float < threshold or not bool(finite.all())
    verdict = (
        f"The card is {mean.to_float:.2f} dB from the float network; {precision} was simulated at {simulated:.2f} dB, "
        f"and {threshold:.2f} dB or more count as agreement: it {'DIFFERS' if is_different else 'agrees'}."
    )
    if precision != "float32" and mean.to_float > simulated + SUSPICIOUS_DB:
        verdict += f" That is nearer than {precision} can be: were these outputs made in another precision?"
    if not bool(finite.all()):
        verdict += f" {counted(int((~finite).sum()), 'output')} with values that are not finite: look for an overflow."
    return CardEvaluation(precision, faces, mean, is_different, verdict)


def likely_faults(bundle: GoldenBundle, precision: Precision, outputs: Tensor, on_step: OnStep) -> list[Suspect]:
    """Ranks the layers of the bundle's network, the likeliest first, by how much of a card's error each explains alone;
    `outputs` is what the card made, [N, 3, R, R]. Raises ValueError where fewer than two of them are finite and differ.
    """
    error = outputs - bundle.outputs[precision]
    usable = torch.isfinite(error).flatten(1).all(dim=1).nonzero()[:NUM_FAULT_FACES, 0]
    degraded = bundle.degraded[usable]
    network = StaticGPEN(load_generator(bundle.folder / SAFETENSORS_NAME))
    names = [layer.name for layer in map_layers(network)]
    signatures = _quantization_errors(network, bundle, degraded, on_step)
    return locate_fault(network, names, uint8_to_model(degraded), error[usable], signatures, on_step=on_step)


def _quantization_errors(
    network: StaticGPEN, bundle: GoldenBundle, degraded: Tensor, on_step: OnStep
) -> dict[str, Tensor]:
    words = "simulating each convolution in int8"
    on_step(words)
    folder = bundle.folder / contents.CALIBRATION_NAME / contents.IMAGES_NAME
    calibration = bundle.degraded
    if folder.is_dir():
        calibration = _images(folder, sorted(path.name for path in folder.glob("*.png")), bundle.resolution)
    grids = choose_grids(network, calibration_ranges(network, calibration), "mse", "vacc")
    exact = simulate(network, {}, degraded)
    errors = {}
    for number, (name, grid) in enumerate(grids.items()):
        on_step(words, number, len(grids))
        errors[name] = simulate(network, {name: grid}, degraded) - exact
    return errors


def _comparison(name: str, row: Tensor) -> FaceComparison:
    to_float, to_expected, *clean = (float(value) for value in row)
    return FaceComparison(name, to_float, to_expected, *(clean or (None, None)))


def _tensor(path: Path, key: str) -> Tensor:
    return torch.from_numpy(read_array(path, key))


def _images(folder: Path, names: list[str], resolution: int) -> Tensor:
    images = FaceImages(FaceFiles(folder, names, [(folder / name).stat().st_size for name in names]), resolution)
    return torch.stack([images[index] for index in range(len(names))])


def read_outputs(folder: Path, stems: Sequence[str], resolution: int, pictures: Pictures = Pictures()) -> Tensor:
    """Reads one output for every golden face from a folder with npz files, whose array `output_0` is [1, 3, R, R] or
    [3, R, R] of any float type, or with images: float32 [N, 3, R, R], about [-1, 1], in the order of the stems, which
    are the faces' names without suffix in the order of their list.

    A file belongs to the face whose name it bears. If no file bears the name of a face, the number at the end of each
    file's name is the place in the list that was given to vamp, from 0; the order in which names sort means nothing.
    FileNotFoundError where there is no such folder, ValueError where it holds neither kind of file or both, or an
    output is missing, ambiguous, or has another shape.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"outputs must be a folder with npz files or images, there is none at {folder}")
    arrays = sorted(path for path in folder.rglob("*.npz") if path.is_file())
    if not arrays:
        return _read_images(pictures.open(folder), stems, resolution)
    names = _match([path.stem for path in arrays], stems, folder)
    return torch.stack([_array(arrays[index], resolution) for index in names])


def _read_images(faces: FaceFiles, stems: Sequence[str], resolution: int) -> Tensor:
    positions = _match([Path(name).stem for name in faces.names], stems, faces.path)
    images = []
    for index in positions:
        picture = faces.read(index)
        _check_shape(faces.path / faces.names[index], (3, *picture.size[::-1]), resolution)
        images.append(torch.from_numpy(np.array(picture)).permute(2, 0, 1))
    return uint8_to_model(torch.stack(images))


def _match(found: Sequence[str], stems: Sequence[str], folder: Path) -> list[int]:
    """Position in `found` of every golden face's output."""
    places: dict[str, list[int]] = {stem: [] for stem in stems}
    named = [index for index, name in enumerate(found) if name in places]
    for index in named:
        places[found[index]].append(index)
    if not named:  # vamp's own names
        for index, name in enumerate(found):
            number = re.search(r"(\d+)$", name)
            if number is None or int(number[1]) >= len(stems):
                raise ValueError(
                    "outputs must have the names of the inputs or end in their number in the list, "
                    f"0 to {len(stems) - 1}; {folder} holds {name}"
                )
            places[stems[int(number[1])]].append(index)
    wrong = [stem for stem in stems if len(places[stem]) != 1]
    if wrong:
        raise ValueError(
            f"{folder} must hold exactly one output for each of {counted(len(stems), 'golden face')}; it holds "
            f"{len(places[wrong[0]])} for {wrong[0]} and is wrong for {len(wrong) - 1} more"
        )
    return [places[stem][0] for stem in stems]


def _array(path: Path, resolution: int) -> Tensor:
    array = read_array(path, contents.OUTPUT_KEY)
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    _check_shape(path, array.shape, resolution)
    if array.dtype.kind != "f":
        raise ValueError(f"{path} must hold floating-point values, about [-1, 1], got {array.dtype}")
    return torch.from_numpy(array.astype(np.float32))


def _check_shape(path: Path, shape: tuple[int, ...], resolution: int) -> None:
    wanted = (3, resolution, resolution)
    if tuple(shape) != wanted:
        raise ValueError(f"{path} must have the shape {list(wanted)}, got {list(shape)}; was it made with this bundle?")
