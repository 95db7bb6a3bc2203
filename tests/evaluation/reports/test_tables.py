"""What tables and sentences say of an evaluation."""

from types import SimpleNamespace
from typing import Any, cast

from evaluation.reports.tables import harm_sentence
from evaluation.statistics import MeanInterval


def told(**differences: MeanInterval) -> str:
    return harm_sentence(cast(Any, SimpleNamespace(difference=differences)))


def test_only_differences_whose_interval_is_on_the_wrong_side_of_zero_are_called_worse() -> None:
    better, unsure = MeanInterval(1.67, 1.49, 1.86), MeanInterval(0.0011, -0.0125, 0.0145)
    assert told(psnr=better, identity=unsure) == ""
    worse = MeanInterval(-1.671, -1.9, -1.4)
    assert told(psnr=worse, identity=unsure) == (
        "The restored faces are worse than the degraded ones: 1.671 dB PSNR below these."
    )
    assert "identity above" in told(psnr=better, identity=MeanInterval(0.02, 0.01, 0.03))
