"""Pictures of a comparison: the same faces restored by every variant, and curves over images seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from data.ranges import model_to_uint8, uint8_to_model
from evaluation.pairs import PairBatch
from evaluation.reports.charts import Curve, columns_of, curves_svg
from evaluation.reports.pictures import Picture, comparison_rows
from evaluation.reports.report import Report
from export.static.graph import Cost, count_cost
from inference.restorers import load_restorer
from studies.comparison import Comparison, Variant, file_name

NUM_EXAMPLES = 6
"""Faces in a picture: the first ones by name, so that nobody chose them."""


@dataclass(frozen=True)
class Examples:
    """What the first member of a variant makes of the example faces."""

    cost: Cost | None
    """None where the file does not tell its architecture."""
    restored: dict[str, Tensor]
    """Short name of the degradation to uint8 [N, 3, R, R]."""


def example_pairs(comparison: Comparison, resolution: int) -> dict[str, PairBatch]:
    """The first faces by name, degraded exactly as for the measurement."""
    settings = comparison.measurement
    number = min(NUM_EXAMPLES, settings.max_faces or NUM_EXAMPLES)
    faces = settings.pictures.open(comparison.faces)
    return {
        name: next(
            iter(replace(settings.pairs_of(faces, resolution, degradation), batch_size=number, max_faces=number))
        )
        for name, degradation in settings.preset_names().items()
    }


def restore_examples(variant: Variant, pairs: Mapping[str, PairBatch]) -> Examples:
    """Restores the example faces with the first member of a variant; FileNotFoundError or ValueError where its file is
    gone, is damaged or has another resolution."""
    restorer = load_restorer(variant.members[0].checkpoint)
    restored = {name: model_to_uint8(restorer(uint8_to_model(pair.degraded))) for name, pair in pairs.items()}
    cost = None if restorer.architecture is None else count_cost(restorer.architecture)
    return Examples(cost, restored)


def examples_picture(pairs: PairBatch, restored: Mapping[str, Tensor], with_photographs: bool) -> Picture:
    """One row per example face: degraded, every variant (uint8 [N, 3, R, R] by its name), target; degraded and target
    faces only with photographs."""
    columns, headings = list(restored.values()), list(restored)
    if with_photographs:
        columns, headings = [pairs.degraded, *columns, pairs.target], ["degraded", *headings, "target"]
    return comparison_rows(columns, headings)


SCALE_FROM = 0.2
"""The first fifth of a run does not set the scale: it would hide what differs later."""


@dataclass(frozen=True)
class _Quantity:
    """A column of a run's tables."""

    file: str
    column: str
    label: str
    caption: str


_QUANTITIES = (
    _Quantity("validation.csv", "validation/psnr", "PSNR [dB]", "PSNR on validation faces"),
    _Quantity("validation.csv", "validation/lpips", "LPIPS", "LPIPS on validation faces"),
    _Quantity("validation.csv", "validation/fid", "FID", "FID of drawn faces"),
    _Quantity("train.csv", "generator/l1", "L1", "L1 loss in training"),
    _Quantity("train.csv", "generator/smooth_l1", "smooth L1", "smooth L1 loss in training"),
)


def add_training_curves(report: Report, comparison: Comparison) -> None:
    """Adds a chart for every stage and quantity of which some variant has a record."""
    stages = dict.fromkeys(stage for v in comparison.variants for member in v.members for stage in member.runs)
    for stage in stages:
        for quantity in _QUANTITIES:
            curves = [c for v in comparison.variants if (c := _variant_curve(v, stage, quantity)) is not None]
            if curves:
                caption = f"{stage}: {quantity.caption}"
                if any(curve.low for curve in curves):
                    caption += "; mean over seeds, the band reaches from the lowest to the highest"
                caption += f". The first {SCALE_FROM:.0%} of the images do not set the scale."
                drawing = curves_svg(curves, "images seen", quantity.label, scale_from=SCALE_FROM)
                report.add_svg(drawing, caption, name=file_name(f"{stage}_{quantity.column.replace('/', '_')}"))


def mean_curve(label: str, curves: Sequence[Curve]) -> Curve | None:
    """The mean of several runs where all of them have a point, with a band from the lowest to the highest where there
    are several; None without common points."""
    tables = [dict(zip(curve.x, curve.y, strict=True)) for curve in curves]
    common = sorted(set.intersection(*(set(table) for table in tables))) if tables else []
    if not common:
        return None
    values = np.array([[table[x] for x in common] for table in tables])
    mean = values.mean(axis=0).tolist()
    if len(curves) == 1:
        return Curve(label, common, mean)
    return Curve(label, common, mean, values.min(axis=0).tolist(), values.max(axis=0).tolist())


def _variant_curve(variant: Variant, stage: str, quantity: _Quantity) -> Curve | None:
    paths = [member.runs[stage] / quantity.file for member in variant.members if stage in member.runs]
    curves = [curve for path in paths if path.is_file() for curve in columns_of(path, [quantity.column])]
    return mean_curve(variant.name, curves)
