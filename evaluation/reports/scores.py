"""Scores of a folder of results as JSON, CSV and tables to print."""

import json
from dataclasses import asdict
from pathlib import Path

from evaluation.metrics.choice import Metrics
from evaluation.metrics.forms import METRIC_FORMS, MetricForm
from evaluation.reports.tables import csv_text
from evaluation.scoring import FolderScores
from evaluation.statistics import MeanInterval
from system.atomic_file import write_atomically


def write_scores(folder: Path, scores: FolderScores, metrics: Metrics) -> None:
    """Writes per_image.csv and, last, metrics.json."""
    (folder / "metrics.json").unlink(missing_ok=True)
    names = list(next(iter(scores.rows.values())))
    rows = [(name, *values.values()) for name, values in scores.rows.items()]
    write_atomically(folder / "per_image.csv", csv_text(["name", *names], rows))
    summary = {
        "results": {name: asdict(value) for name, value in scores.means.items()},
        "conventions": [asdict(convention) for convention in scores.conventions],
        "sizes": scores.sizes,
        "unavailable": dict(metrics.unavailable),
        "metrics": metrics.definitions(),
    }
    write_atomically(folder / "metrics.json", json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False))


def score_rows(scores: FolderScores) -> list[list[str]]:
    """Head and one row."""
    names = [name for name in METRIC_FORMS if name in scores.means]
    head = [METRIC_FORMS[name].heading for name in names]
    return [head, [_cell(METRIC_FORMS[name], scores.means[name]) for name in names]]


def convention_rows(scores: FolderScores) -> list[list[str]]:
    """Head and a row for each convention."""
    psnr, ssim = METRIC_FORMS["psnr"], METRIC_FORMS["ssim"]
    rows = [["convention", "used by", psnr.heading, ssim.heading]]
    for means in scores.conventions:
        rows.append([means.name, means.used_by, _cell(psnr, means.psnr), _cell(ssim, means.ssim)])
    return rows


def _cell(form: MetricForm, value: MeanInterval) -> str:
    """Mean and, below it, the interval."""
    digits = f".{form.digits}f"
    if value.low is None or value.high is None:
        return format(value.mean, digits)
    return f"{value.mean:{digits}}\n[{value.low:{digits}}, {value.high:{digits}}]"
