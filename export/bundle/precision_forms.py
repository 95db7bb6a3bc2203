"""The network in every precision that was asked for, with the images each makes of the evaluation faces."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from data.ranges import uint8_to_model
from export.bundle.contents import INTEGER_ONNX_NAME, INTEGER_TORCHSCRIPT_NAME, ExportSettings, LayerEntry
from export.bundle.faces import BundleFaces
from export.formats.artefacts import write_torchscript
from export.formats.integer_engine import write_integer_onnx
from export.formats.parity import check_difference, compare_networks
from export.int8.quantization import QuantizationSettings, QuantizedNetwork, quantize
from export.static.graph import Layer, map_layers
from export.static.half_precision import ValueRange, half_risks, record_ranges, simulate_half
from export.static.network import StaticGPEN
from inference.restorers import load_restorer
from models import GPEN


@dataclass(frozen=True)
class PrecisionForms:
    """All forms of one network."""

    layers: tuple[LayerEntry, ...]
    """The layer map, with the precision of each layer."""
    restored: Mapping[str, Tensor]
    """Form to what it makes of the evaluation faces, [N, 3, R, R]; `float32` first."""
    golden_forms: Mapping[str, str]
    """Precision to the form whose images the card should give in it."""
    quantized: QuantizedNetwork | None
    """int8 as the card computes it; None without."""
    ranges: Mapping[str, ValueRange]
    """Of every module, where fp16 was asked for."""
    warnings: tuple[str, ...]
    """What needs attention."""
    artefacts: tuple[str, ...]
    """Names of files that were written for these forms."""

    @property
    def int8_flops_share(self) -> float | None:
        """Of all FLOPs, those in int8."""
        if self.quantized is None:
            return None
        return sum(layer.flops for layer in self.layers if layer.precision == "int8") / sum(
            layer.flops for layer in self.layers
        )


def make_forms(
    folder: Path,
    generator: GPEN,
    network: StaticGPEN,
    layers: Sequence[Layer],
    faces: BundleFaces,
    settings: ExportSettings,
    tell: Callable[[str], None],
) -> PrecisionForms:
    """Restores the evaluation faces in every precision and writes the artefacts of int8.

    Args:
        folder: Of the bundle.
        generator: The trained network.
        network: Its static form.
        layers: Of the static form.
        faces: Of the bundle.
        settings: Precisions and how int8 is chosen.
        tell: Told what begins.

    Raises:
        ValueError: An artefact of int8 differs from what was simulated.
    """
    degraded = faces.evaluation.degraded
    tell(f"restoring {len(degraded)} faces in float32")
    restored = {"float32": restore_all(network, degraded)}
    golden_forms = {"float32": "float32"}
    ranges: dict[str, ValueRange] = {}
    warnings: list[str] = []
    quantized: QuantizedNetwork | None = None
    artefacts: tuple[str, ...] = ()
    if "fp16" in settings.precisions:
        tell(f"restoring {len(degraded)} faces in fp16")
        golden_forms["fp16"] = "fp16, simulated"
        restored["fp16, simulated"] = restore_all(simulate_half(network), degraded)
        ranges = record_ranges(network, uint8_to_model(faces.golden.degraded))
        warnings += half_risks(ranges)
    if "int8" in settings.precisions:
        quantized, images, more = _make_integer_forms(folder, generator, network, layers, faces, settings, tell)
        golden_forms["int8"] = next(iter(images))
        restored |= images
        warnings += more
        artefacts = INTEGER_TORCHSCRIPT_NAME, INTEGER_ONNX_NAME
    entries = tuple(_entry(layer, quantized) for layer in layers)
    return PrecisionForms(entries, restored, golden_forms, quantized, ranges, tuple(warnings), artefacts)


def restore_all(restore: Callable[[Tensor], Tensor], degraded: Tensor, batch_size: int = 8) -> Tensor:
    """Restores faces, uint8 [N, 3, R, R] to float32 [N, 3, R, R], a few at a time."""
    with torch.no_grad():
        return torch.cat([restore(uint8_to_model(batch)) for batch in degraded.split(batch_size)])


def _make_integer_forms(
    folder: Path,
    generator: GPEN,
    network: StaticGPEN,
    layers: Sequence[Layer],
    faces: BundleFaces,
    settings: ExportSettings,
    tell: Callable[[str], None],
) -> tuple[QuantizedNetwork, dict[str, Tensor], list[str]]:
    """int8 as the card computes it, simulated, and as onnxruntime does, executed; images by form, and warnings."""
    assert faces.calibration is not None  # int8 without faces was refused
    chosen, evaluation = settings.quantization, faces.evaluation
    name = f"int8 ({chosen.calibration})"
    card = quantize(network, layers, faces.calibration, evaluation, chosen, tell, faces.range_faces)
    tell("writing and running the artefacts of int8")
    write_torchscript(folder / INTEGER_TORCHSCRIPT_NAME, card.network)
    restorer = load_restorer(folder / INTEGER_TORCHSCRIPT_NAME)
    images = uint8_to_model(faces.golden.degraded)
    check_difference(INTEGER_TORCHSCRIPT_NAME, compare_networks(card.network, restorer, images))
    # onnxruntime has integer kernels for ordinary convolutions only, and its own arithmetic between them.
    shuffled = StaticGPEN(generator, "pixel_shuffle")
    without_choice = replace(chosen, target="onnxruntime", largest_drop_db=None, largest_float_flops=0.0)
    engine = quantize(
        shuffled, map_layers(shuffled), faces.calibration, evaluation, without_choice, tell, faces.range_faces
    )
    write_integer_onnx(folder / INTEGER_ONNX_NAME, engine.network, engine.grids)
    executed = load_restorer(folder / INTEGER_ONNX_NAME)
    forms = {
        f"{name}, simulated": card.simulate(evaluation.degraded),
        f"{name}, onnxruntime": restore_all(executed, evaluation.degraded),
    }
    return card, forms, _unreachable(layers, card) + _missed_budget(card, chosen)


def _unreachable(layers: Sequence[Layer], quantized: QuantizedNetwork) -> list[str]:
    """Says so if a layer should be excluded that the compiler cannot be told to exclude."""
    names = [layer.name for layer in layers if layer.name in quantized.reasons and layer.conv2d_index is None]
    if not names:
        return []
    return [
        f"{', '.join(names)} should stay out of int8 but has no number that exclude_layers could name; export with "
        "--upsampling pixel_shuffle, whose convolutions all have one"
    ]


def _missed_budget(quantized: QuantizedNetwork, settings: QuantizationSettings) -> list[str]:
    """Says so if int8 costs more than was allowed."""
    if quantized.is_within_budget:
        return []
    drop = quantized.by_float.psnr - quantized.by_int8.psnr
    return [
        f"int8 misses its budget: {drop:.3f} dB below float and {quantized.by_int8.psnr_to_float:.1f} dB from it, "
        f"{settings.largest_drop_db} and at least {settings.least_psnr_to_float_db} are allowed; try "
        "--largest-float-flops, --rounding-iterations or quantization-aware fine-tuning"
    ]


def _entry(layer: Layer, quantized: QuantizedNetwork | None) -> LayerEntry:
    precision = "float32" if quantized is None else quantized.precisions[layer.name]
    reason = "" if quantized is None else quantized.reasons.get(layer.name, "")
    shapes = layer.weight_shape, layer.output_shape
    return LayerEntry(layer.name, layer.kind, layer.conv2d_index, *shapes, layer.flops, precision, reason)
