"""What tables and sentences say of an evaluation."""

from types import SimpleNamespace
from typing import Any, cast

from evaluation.reports.tables import harm_sentence, level_sentence
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


def test_what_chance_may_have_done_is_said_to_be_no_difference_in_either_direction() -> None:
    found = {
        "psnr": MeanInterval(0.2, -0.1, 0.5),
        "ssim": MeanInterval(-0.02, -0.05, 0.01),
        "identity": MeanInterval(0.001, 0.0, 0.002),  # 0 is in it
        "lpips": MeanInterval(-0.1, -0.2, -0.05),
        "fd_lite0": MeanInterval(80.0, None, None),  # of the whole set: no interval, no claim
    }
    evaluation = cast(Any, SimpleNamespace(difference=found))
    assert level_sentence(evaluation) == (
        "In PSNR, SSIM and identity the restored faces cannot be told apart from the degraded ones."
    )
    assert harm_sentence(evaluation) == ""
    tiny = cast(Any, SimpleNamespace(difference={"psnr": MeanInterval(-0.0002, -0.0003, -0.0001)}))
    assert "worse than the degraded ones: less than 0.001 dB PSNR below these" in harm_sentence(tiny)
    assert level_sentence(tiny) == ""
