"""Curves over images seen: one line per variant, the mean of its seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.reports.charts import Curve, columns_of, curves_svg
from evaluation.reports.report import Report
from studies.comparison import Comparison, Variant, file_name

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
    """The mean of several runs where all of them have a point, with a band from the lowest to the highest.

    Args:
        label: Of the new line.
        curves: One per run.

    Returns:
        The mean, without band for a single run; None without common points.
    """
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
