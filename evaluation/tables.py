"""Results of an evaluation as JSON, CSV and rows to print."""

import csv
import io
import json

from evaluation.protocol import Evaluation
from evaluation.statistics import MeanInterval

_DIGITS = {"psnr": 2, "fid": 2}


def metrics_json(evaluation: Evaluation) -> str:
    """Means, intervals, unavailable metrics and the whole protocol as JSON text."""
    return json.dumps(evaluation.summary(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def per_image_csv(evaluation: Evaluation) -> str:
    """One line per face: its name, then every metric of the degraded and of the restored image at full precision."""
    metrics = list(evaluation.rows[0].degraded)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", *(f"degraded_{name}" for name in metrics), *(f"restored_{name}" for name in metrics)])
    for row in evaluation.rows:
        values = [*(row.degraded[name] for name in metrics), *(row.restored[name] for name in metrics)]
        writer.writerow([row.name, *map(repr, values)])
    return text.getvalue()


def summary_rows(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table people read: metrics in columns; degraded, restored and their difference in rows.

    torchmetrics' columns, which repeat the same numbers as a check, stay in the files.
    """
    metrics = [name for name in evaluation.degraded if not name.endswith("_torchmetrics")]
    tables = {"degraded": evaluation.degraded, "restored": evaluation.restored, "difference": evaluation.difference}
    rows = [
        [name, *(_cell(metric, table[metric], signed=name == "difference") for metric in metrics)]
        for name, table in tables.items()
    ]
    return ["", *(_heading(name) for name in metrics)], rows


def _heading(metric: str) -> str:
    """Name of a metric with its unit and better direction."""
    return {"psnr": "PSNR dB ↑", "ssim": "SSIM ↑", "lpips": "LPIPS ↓", "fid": "FID ↓", "identity": "identity ↓"}[metric]


def _cell(metric: str, value: MeanInterval, signed: bool) -> str:
    """Mean and interval, such as `24.31 [24.02, 24.60]`."""
    form = f"{'+' if signed else ''}.{_DIGITS.get(metric, 4)}f"
    if value.low is None or value.high is None:
        return format(value.mean, form)
    return f"{value.mean:{form}} [{value.low:{form}}, {value.high:{form}}]"
