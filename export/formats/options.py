"""What exports and conversions are asked for; nothing here needs PyTorch, so that help and wrong options answer at
once."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from data.faces.files import Pictures

if TYPE_CHECKING:
    from export.int8.quantization import QuantizationSettings

Precision = Literal["float32", "fp16", "int8"]


@dataclass(frozen=True)
class ParityFaces:
    """Faces to compare and measure on."""

    faces: Path | None = None
    """Folder or zip of clean faces: the last ones by name are degraded to compare and measure on, the first ones to
    calibrate int8; without it smooth synthetic images serve, and there is no int8."""
    degradation: str = "released"
    """Preset or YAML file that degrades them."""
    seed: int = 0
    """Seed of the degradation, or of the drawing of images."""
    images: int = 8
    """Golden faces, to compare on and to travel along."""
    pictures: Pictures = Pictures()

    def __post_init__(self) -> None:
        if self.images < 1:
            raise ValueError(f"the number of images to compare on must be at least 1, got {self.images}")


@dataclass(frozen=True)
class ExportSettings:
    """Forms of the network, and how int8 is made."""

    precision: tuple[Precision, ...] = ()
    """What to prepare and measure beside the float artefacts; all if none is named, without --faces no int8."""
    opset: int = 20
    """Opset of the ONNX file for onnxruntime, 11 to 20; another one has 11."""
    upsampling: Literal["transposed", "pixel_shuffle"] = "transposed"
    """Fewest FLOPs, or only convolutions that compilers count."""
    calibration: Path | None = None
    """Folder of degraded faces of the model's size to take the ranges from."""
    calibration_faces: int = 100
    """Faces to calibrate on, at most half of all."""
    evaluation_faces: int = 100
    """Other faces to measure on."""
    sensitivity_faces: int = 32
    """How many calibration faces show what each convolution costs in int8."""
    calibration_mode: Literal["max", "mse", "percentile", "kl"] = "mse"
    """Where ranges of activations end."""
    largest_drop: float = 0.1
    """dB of PSNR that int8 may cost; convolutions stay in float until it is met."""
    largest_float_flops: float = 0.05
    """Share of the FLOPs that may stay in float for that; 0 for none."""
    rounding_iterations: int = 0
    """Steps of learned rounding for each convolution; 0 rounds to nearest."""

    def __post_init__(self) -> None:
        problems = []
        if len(set(self.precision)) < len(self.precision):
            problems.append(f"precisions must be named once each, got {' '.join(self.precision)}")
        if self.calibration is not None and self.precision and "int8" not in self.precision:
            problems.append(f"calibration faces ({self.calibration}) serve int8 only; add int8 to the precisions")
        if min(self.calibration_faces, self.evaluation_faces) < 1:
            problems.append(
                f"numbers of faces must be at least 1, got {self.calibration_faces} to calibrate and "
                f"{self.evaluation_faces} to measure on"
            )
        if problems:
            raise ValueError("; ".join(problems))

    def completed(self, has_faces: bool) -> "ExportSettings":
        """The same with all precisions that can be measured where none is named."""
        every: tuple[Precision, ...] = ("float32", "fp16", "int8")
        return self if self.precision else replace(self, precision=every if has_faces else every[:2])

    def quantization(self) -> "QuantizationSettings":
        """How int8 is made; ValueError where something of it is out of range."""
        from export.int8.layer_selection import QualityBudget
        from export.int8.quantization import QuantizationSettings

        return QuantizationSettings(
            calibration=self.calibration_mode,
            budget=QualityBudget(self.largest_drop, largest_float_flops=self.largest_float_flops),
            rounding_iterations=self.rounding_iterations,
            num_sensitivity_faces=self.sensitivity_faces,
        )


@dataclass(frozen=True)
class ConversionSettings:
    """What the file is like; all but the range concerns ONNX."""

    dynamic_batch: bool = False
    """ONNX takes any number of faces at once; most tools give one."""
    half: bool = False
    """ONNX computes in 16 bits, with float32 input and output."""
    unit_range: bool = False
    """The network takes and gives [0, 1], as public Seg2face does; it is changed to [-1, 1], which all commands and
    formats here mean."""
    faces: Path | None = None
    """Clean faces to record ranges and to compare on; smooth synthetic images without."""
    pictures: Pictures = Pictures()
