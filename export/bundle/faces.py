"""Which faces a bundle is calibrated, measured and compared on."""

from dataclasses import dataclass

from torch import Tensor

from data.ranges import model_to_uint8
from evaluation.pairs import PairBatch
from export.bundle.contents import ExportSettings, ImagesUsed
from export.bundle.face_sets import read_calibration, split_faces
from export.formats.parity import ParityFaces, parity_images


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
    """The golden ones in words."""
    warnings: tuple[str, ...]
    """About the calibration faces."""

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


def choose_faces(compare_on: ParityFaces, settings: ExportSettings, resolution: int) -> BundleFaces:
    """Reads, degrades and divides the faces that were given.

    Args:
        compare_on: Faces, degradation and number of golden ones.
        settings: What the faces are needed for.
        resolution: R in pixels.

    Raises:
        FileNotFoundError: A folder or preset is missing.
        ValueError: int8 was asked for without faces, or faces are too few or unfit.
    """
    number, seed = compare_on.num_images, compare_on.seed
    if compare_on.faces is None:
        if "int8" in settings.precisions:
            raise ValueError("int8 needs faces to calibrate and to measure on; add --faces FOLDER or leave int8 out")
        images = model_to_uint8(parity_images(compare_on, resolution))
        smooth = PairBatch([f"smooth_{index:03d}" for index in range(len(images))], images, images)
        used = ImagesUsed("smooth synthetic images", len(images), None, seed)
        return BundleFaces(None, None, smooth, smooth, used, ())
    is_integer = "int8" in settings.precisions
    is_measured = settings.precisions != ("float32",)  # else the golden faces suffice
    calibration, evaluation = split_faces(
        compare_on.faces,
        compare_on.degradation,
        seed,
        resolution,
        settings.num_calibration if is_integer else 0,
        max(number, settings.num_evaluation) if is_measured else number,
    )
    range_faces: Tensor | None = None
    warnings: tuple[str, ...] = ()
    if settings.calibration is not None:
        range_faces, warnings = read_calibration(settings.calibration, resolution, evaluation)
    golden = PairBatch(evaluation.names[:number], evaluation.degraded[:number], evaluation.target[:number])
    used = ImagesUsed("degraded faces", len(golden.names), compare_on.degradation, seed)
    return BundleFaces(calibration, range_faces, evaluation, golden, used, warnings)
