"""Names of the metrics and how each is written; nothing here computes one, so that options and tables load quickly."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

MetricName = Literal[
    "psnr", "ssim", "perceptual", "lpips", "identity", "identity_mobilenet", "landmarks", "niqe", "fd_lite0", "fid"
]
ALL_METRICS: tuple[MetricName, ...] = get_args(MetricName)


@dataclass(frozen=True)
class MetricForm:
    """How a metric is written."""

    name: str
    unit: str
    """Empty for a number without unit."""
    higher_is_better: bool | None
    """Direction of improvement; None where only the metric's definition says it."""
    digits: int = 4
    """After the point, in tables of one evaluation."""
    fine_digits: int = 4
    """After the point, where small differences are compared."""

    @property
    def heading(self) -> str:
        """Name, unit and better direction, for the head of a column."""
        arrow = "" if self.higher_is_better is None else " ↑" if self.higher_is_better else " ↓"
        return f"{self.name}{f' {self.unit}' if self.unit else ''}{arrow}"

    def is_better(self, change: float) -> bool | None:
        """Whether a change, which is not 0, is for the better; None where the direction is not known."""
        return None if self.higher_is_better is None else (change > 0) == self.higher_is_better

    def amount(self, change: float) -> str:
        """Size and name of a change, such as "0.120 dB PSNR"; "less than 0.001 dB PSNR" where its digits show none."""
        size = f"{abs(change):.{self.fine_digits}f}"
        if float(size) == 0:
            size = f"less than {10**-self.fine_digits:.{self.fine_digits}f}"
        return f"{size}{f' {self.unit}' if self.unit else ''} {self.name}"


METRIC_FORMS: dict[str, MetricForm] = {
    "psnr": MetricForm("PSNR", "dB", True, digits=2, fine_digits=3),
    "ssim": MetricForm("SSIM", "", True),
    "perceptual": MetricForm("perceptual", "", False),
    "lpips": MetricForm("LPIPS", "", False),
    "identity": MetricForm("identity", "", False),
    "identity_mobilenet": MetricForm("identity (MobileNet)", "", False),
    "landmarks": MetricForm("landmarks", "px of 512", False, digits=2, fine_digits=2),
    "niqe": MetricForm("NIQE", "", False, digits=2, fine_digits=3),
    "fd_lite0": MetricForm("FD-Lite0", "", False, digits=2, fine_digits=2),
    "kid_lite0": MetricForm("KID-Lite0 × 1,000", "", False, digits=2, fine_digits=2),
    "fid": MetricForm("FID", "", False, digits=2, fine_digits=2),
}
"""How each metric is written, in the order of the columns; kid_lite0 comes with fd_lite0."""

PYIQA = "pyiqa:"
"""What names of metrics of the package pyiqa begin with."""


def form_of(name: str) -> MetricForm:
    """How a metric is written, one of pyiqa's included."""
    return METRIC_FORMS.get(name) or MetricForm(name, "", None)


def in_order(names: Iterable[str]) -> list[str]:
    """Names of metrics in the order of the columns, those of pyiqa last."""
    given = list(names)
    return [name for name in METRIC_FORMS if name in given] + [name for name in given if name.startswith(PYIQA)]
