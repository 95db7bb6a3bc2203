"""Results of an evaluation as JSON, CSV and rows to print."""

import csv
import io
import json
from pathlib import Path

from evaluation.metrics.choice import METRIC_FORMS, MetricForm
from evaluation.protocol import Evaluation
from evaluation.reports.pictures import worst_and_best, write_png
from evaluation.statistics import MeanInterval
from system.atomic_file import write_atomically


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Writes per_image.csv, best_worst.png and, last, metrics.json: a folder that has it is complete."""
    (folder / "metrics.json").unlink(missing_ok=True)
    write_atomically(folder / "per_image.csv", per_image_csv(evaluation))
    write_png(folder / "best_worst.png", worst_and_best(evaluation))
    write_atomically(folder / "metrics.json", metrics_json(evaluation))


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
    """Header and rows of the table people read: metrics in columns; degraded, restored and their difference in rows."""
    metrics = [name for name in METRIC_FORMS if name in evaluation.degraded]
    tables = {"degraded": evaluation.degraded, "restored": evaluation.restored, "difference": evaluation.difference}
    rows = [
        [name, *(_cell(METRIC_FORMS[metric], table[metric], name == "difference") for metric in metrics)]
        for name, table in tables.items()
    ]
    return ["", *(METRIC_FORMS[name].heading for name in metrics)], rows


def _cell(metric: MetricForm, value: MeanInterval, signed: bool) -> str:
    """Mean and interval, such as `24.31 [24.02, 24.60]`."""
    form = f"{'+' if signed else ''}.{metric.digits}f"
    if value.low is None or value.high is None:
        return format(value.mean, form)
    return f"{value.mean:{form}} [{value.low:{form}}, {value.high:{form}}]"
