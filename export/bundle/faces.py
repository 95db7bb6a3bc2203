"""Faces of a bundle: to calibrate on, to measure on, and to compare with what comes back from a card."""

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from data.dataset import FaceImages
from data.faces.files import FaceFiles, fingerprint, print_left_out
from data.ranges import model_to_uint8
from evaluation.pairs import FacePairs, PairBatch
from export.bundle import contents
from export.bundle.contents import ImagesUsed
from export.formats.artefacts import parity_images
from export.formats.options import ExportSettings, ParityFaces
from models.files.run_folder import read_record, run_of
from system.wording import counted


@dataclass(frozen=True)
class BundleFaces:
    """All faces of a bundle."""

    calibration: PairBatch | None
    """Degraded and clean faces for int8; None without it."""
    range_faces: Tensor | None
    """Degraded faces of the user's own for the ranges, uint8 [N, 3, R, R]; None takes those of `calibration`."""
    evaluation: PairBatch
    """Faces to measure on; where none were given, smooth images that are their own target."""
    golden: PairBatch
    """The first ones of these: they travel with the bundle."""
    used: ImagesUsed
    evaluated_on: str
    """What the training's record says of the faces to measure on, in words."""
    warnings: tuple[str, ...]

    @property
    def has_targets(self) -> bool:
        """Whether there are clean faces to measure against."""
        return self.used.degradation is not None

    @property
    def calibrated_on(self) -> PairBatch | None:
        """The faces that travel along for calibration on the target."""
        if self.calibration is None or self.range_faces is None:
            return self.calibration
        names = [f"{index:06d}" for index in range(len(self.range_faces))]
        return PairBatch(names, self.range_faces, self.range_faces)


def choose_faces(
    compare_on: ParityFaces, settings: ExportSettings, resolution: int, record: Mapping[str, Any] | None = None
) -> BundleFaces:
    """Reads the faces that were given, degrades them at R pixels and divides them into what the settings need; of faces
    that the record of the checkpoint's training knows only those it held out are measured on. FileNotFoundError where a
    folder or preset is missing, ValueError where int8 was asked for without faces, or faces are too few or unfit."""
    number, seed = compare_on.images, compare_on.seed
    if compare_on.faces is None:
        if "int8" in settings.precision:
            raise ValueError("int8 needs faces to calibrate and to measure on; add --faces FOLDER or leave int8 out")
        images = model_to_uint8(parity_images(compare_on, resolution))
        smooth = PairBatch([f"smooth_{index:03d}" for index in range(len(images))], images, images)
        used = ImagesUsed("smooth synthetic images", len(images), None, seed)
        return BundleFaces(None, None, smooth, smooth, used, "no faces", ())
    is_integer = "int8" in settings.precision
    is_measured = settings.precision != ("float32",)  # else the golden faces suffice
    faces = compare_on.pictures.open(compare_on.faces)
    print_left_out(faces)
    num_held_out, evaluated_on = known_to_training(faces, record)
    wanted = max(number, settings.evaluation_faces) if is_measured else number
    num_calibration = settings.calibration_faces if is_integer else 0
    num_evaluation = wanted if num_held_out is None else min(wanted, num_held_out)
    calibration, evaluation = split_faces(
        faces, compare_on.degradation, seed, resolution, num_calibration, num_evaluation
    )
    warnings: list[str] = []
    if evaluated_on == TRAINED_ON:
        warnings.append(f"{evaluated_on}: the figures flatter the network; name faces that it has not seen (--faces)")
    elif num_evaluation < wanted and len(evaluation.names) == num_evaluation:
        warnings.append(f"figures hold for {counted(num_evaluation, 'face')} that training held out of {faces.path}")
    range_faces: Tensor | None = None
    if settings.calibration is not None:
        degraded = compare_on.pictures.open(settings.calibration)
        range_faces, more = read_calibration(degraded, resolution, evaluation)
        warnings += more
    elif calibration is not None:
        warnings += enlarged_warnings(faces.take(slice(len(calibration.names))), resolution)
    golden = evaluation.first(number)
    used = ImagesUsed("degraded faces", len(golden.names), compare_on.degradation, seed)
    return BundleFaces(calibration, range_faces, evaluation, golden, used, evaluated_on, tuple(warnings))


QUANTILES = (0.1, 0.5, 0.9)
TRAINED_ON = "the network was trained on the faces that it is measured on"


def training_record(checkpoint: Path) -> Mapping[str, Any] | None:
    """What the run that a checkpoint is or lies in says of its faces; None where no run's record is there."""
    run = run_of(checkpoint.resolve())
    return None if run is None else read_record(run)["data"]


def known_to_training(faces: FaceFiles, record: Mapping[str, Any] | None) -> tuple[int | None, str]:
    """How many of the last faces by name training held out (None if it did not divide this set), and that in words."""
    if record is None:
        return None, "no record of the training lies beside the checkpoint, which says whether it saw these faces"
    number = int(record.get("num_validation_faces", 0))
    parts = faces.take(slice(None, -number)), faces.take(slice(-number, None))
    if number and [fingerprint(p) for p in parts] == [record.get("fingerprint"), record.get("validation_fingerprint")]:
        return number, "training held these faces out"
    if fingerprint(faces) == record.get("fingerprint"):
        return None, TRAINED_ON
    return None, "other faces than the training's"


def split_faces(
    faces: FaceFiles, degradation: str, seed: int, resolution: int, num_calibration: int, num_evaluation: int
) -> tuple[PairBatch | None, PairBatch]:
    """Degrades the first clean faces, at most so many and at most half of all (None for 0), for calibration and the
    last ones for evaluation; no photograph is in both. Raises ValueError where there are too few faces, or one cannot
    be read."""
    if num_calibration and len(faces) < 2:
        raise ValueError(
            f"{faces.path} must hold at least two faces, one to calibrate and one to measure on; it holds one"
        )
    first = min(num_calibration, len(faces) // 2)

    def degraded(part: slice, seed: int) -> PairBatch:
        return FacePairs(faces.take(part), resolution, degradation, seed).joined()

    # Another seed for the first half: equal positions in both would be degraded alike.
    calibration = degraded(slice(first), seed + 1) if first else None
    return calibration, degraded(slice(max(first, len(faces) - num_evaluation), None), seed)


def read_calibration(faces: FaceFiles, resolution: int, expected: PairBatch) -> tuple[Tensor, tuple[str, ...]]:
    """Reads calibration faces of exactly R×R pixels that are degraded already, as they are: uint8 [N, 3, R, R], and a
    warning if they look clean beside degraded faces as expected and their clean ones. ValueError where a face cannot be
    read or has another size."""
    wrong = sorted({faces.read(index).size for index in range(len(faces))} - {(resolution, resolution)})
    if wrong:
        raise ValueError(
            f"calibration faces must be {resolution} x {resolution} pixels, {faces.path} holds some of {wrong[0][0]} x "
            f"{wrong[0][1]}; resize the clean faces before they are degraded, not after"
        )
    images = FaceImages(faces, resolution)
    pixels = torch.stack([images[index] for index in range(len(faces))])
    return pixels, sharpness_warnings(pixels, expected)


def sharpness_warnings(calibration: Tensor, expected: PairBatch) -> tuple[str, ...]:
    """Says so, with the measured distributions, if calibration faces, uint8 [N, 3, R, R], are as sharp as clean ones
    and not as the degraded ones beside these."""
    measured, degraded, clean = (sharpness(x) for x in (calibration, expected.degraded, expected.target))
    medians = [float(x.log().median()) for x in (measured, degraded, clean)]
    if abs(medians[0] - medians[2]) >= abs(medians[0] - medians[1]):
        return ()
    words = ", ".join(
        f"{name} {' / '.join(f'{value:.4f}' for value in x.quantile(x.new_tensor(QUANTILES)).tolist())}"
        for name, x in (("calibration", measured), ("degraded", degraded), ("clean", clean))
    )
    return (
        "the calibration faces look clean, not degraded: RMS of the Laplacian of the brightness, 10 / 50 / 90 %: "
        f"{words}; calibrate on what the card will see (leave --calibration out to have faces degraded)",
    )


def enlarged_warnings(faces: FaceFiles, resolution: int) -> tuple[str, ...]:
    """Says so if clean calibration faces are smaller than R, so that they are blurred before degradation."""
    sizes = [faces.read(index).size for index in range(len(faces))]
    small = [size for size in sizes if min(size) < resolution]
    if not small:
        return ()
    least = min(small, key=min)
    return (
        f"calibration faces smaller than {resolution} x {resolution} pixels (down to {least[0]} x {least[1]}) were "
        f"enlarged, {len(small)} of {len(sizes)}: they lack detail that the card will see, so take larger ones",
    )


def sharpness(images: Tensor) -> Tensor:
    """Root mean square of the Laplacian of the brightness in [0, 1] of uint8 [N, 3, R, R], the energy of the finest
    detail: [N], at least 1e-6 so that it has a logarithm."""
    brightness = images.float().mean(dim=1, keepdim=True) / 255
    kernel = brightness.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    return F.conv2d(brightness, kernel).square().mean(dim=(1, 2, 3)).sqrt().clamp_min(1e-6)


def write_inputs(bundle: Path, name: str, faces: PairBatch) -> list[str]:
    """Writes degraded faces into a folder of the bundle as PNG, as npz for vamp (uint8 RGB [3, R, R]) and the list of
    the latter; gives the stem of each file, in order: the face's name without folders and suffix, numbered where two
    are equal."""
    stems = unique_stems(faces.names)
    write_images(bundle / name / contents.IMAGES_NAME, stems, faces.degraded)
    for stem, pixels in zip(stems, faces.degraded, strict=True):
        write_array(bundle / name / contents.INPUTS_NAME / f"{stem}.npz", contents.INPUT_KEY, pixels.numpy())
    lines = "".join(f"{name}/{contents.INPUTS_NAME}/{stem}.npz\n" for stem in stems)
    (bundle / name / contents.LIST_NAME).write_text(lines, encoding="utf-8")
    return stems


def write_images(folder: Path, stems: Sequence[str], images: Tensor) -> None:
    """Writes uint8 [N, 3, R, R] as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, pixels in zip(stems, images, strict=True):
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / f"{stem}.png")


def write_array(path: Path, key: str, array: np.ndarray) -> None:
    """Writes one array as npz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, allow_pickle=False, **{key: array})


def read_array(path: Path, key: str) -> np.ndarray:
    """Reads one array of an npz file; ValueError if the file is damaged or lacks it."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            return archive[key]
    except FileNotFoundError:
        raise
    except (KeyError, ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} must be an npz file with the array {key}, got {error}; write it anew") from error


def unique_stems(names: Sequence[str]) -> list[str]:
    """File names without folders and suffix; `_2`, `_3` … follow where they would repeat."""
    taken: set[str] = set()
    stems = []
    for name in names:
        stem = wanted = PurePosixPath(name).stem
        number = 1
        while stem in taken:
            number += 1
            stem = f"{wanted}_{number}"
        taken.add(stem)
        stems.append(stem)
    return stems
