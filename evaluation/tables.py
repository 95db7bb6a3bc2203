"""Results of an evaluation as JSON, CSV and rows to print."""

import csv
import io
import json
from dataclasses import dataclass

from evaluation.metrics.choice import MetricName
from evaluation.protocol import Evaluation
from evaluation.statistics import MeanInterval


@dataclass(frozen=True)
class MetricForm:
    """How a metric is written."""

    name: str
    """As people know it."""
    unit: str
    """Empty for a number without unit."""
    higher_is_better: bool
    """Direction of improvement."""
    digits: int = 4
    """After the point, in tables of one evaluation."""
    fine_digits: int = 4
    """After the point, where small differences are compared."""

    @property
    def heading(self) -> str:
        """Name, unit and better direction, for the head of a column."""
        return f"{self.name}{f' {self.unit}' if self.unit else ''} {'↑' if self.higher_is_better else '↓'}"


METRIC_FORMS: dict[MetricName, MetricForm] = {
    "psnr": MetricForm("PSNR", "dB", True, digits=2, fine_digits=3),
    "ssim": MetricForm("SSIM", "", True),
    "lpips": MetricForm("LPIPS", "", False),
    "fid": MetricForm("FID", "", False, digits=2, fine_digits=2),
    "identity": MetricForm("identity", "", False),
}
"""Of every metric, in the order of the columns."""


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
