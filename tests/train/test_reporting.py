"""What a user sees of a run: terms, speed and time left on the console, in train.csv and in the trackers."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from train.command import trackers
from train.meters import Meters
from train.reporting import duration, short_name
from train.settings import RunSettings

Train = Callable[..., None]


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.0, "0:00:00"), (59.6, "0:01:00"), (3723.0, "1:02:03"), (360_000.0, "100:00:00")]
)
def test_durations_are_hours_minutes_seconds(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_short_names_keep_the_first_letter_of_the_network() -> None:
    assert short_name("generator/l1") == "G.l1"
    assert short_name("discriminator/r1_penalty") == "D.r1_penalty"


def test_a_line_per_rhythm_shows_progress_terms_speed_and_time_left(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("restoration", tmp_path, "--run.total_images", 16)
    lines = [line for line in capsys.readouterr().out.splitlines() if "images/s" in line]
    assert [line.split()[0] for line in lines] == ["8", "16"]
    for line in lines:
        assert re.search(
            r" of 16 images  .*D\.adversarial \S+ .*G\.l1 \S+ .*\d+\.\d images/s  \d:\d\d:\d\d left$", line
        )
        assert "skipped" not in line and "gradient_norm" not in line
    assert lines[1].endswith(" 0:00:00 left")


def test_a_row_holds_the_means_since_the_last_one(
    train: Train, tmp_path: Path, read_rows: Callable[[Path], list[dict[str, str]]]
) -> None:
    """The rows of every iteration, averaged, are the row of two iterations."""
    train("restoration", tmp_path / "each", "--run.total_images", 8, "--run.log_every_images", 4)
    train("restoration", tmp_path / "both", "--run.total_images", 8, "--run.log_every_images", 8)
    first, second = read_rows(tmp_path / "each" / "train.csv")
    (both,) = read_rows(tmp_path / "both" / "train.csv")
    for column in ("generator/l1", "generator/adversarial", "discriminator/real_score", "generator/gradient_norm"):
        assert float(both[column]) == pytest.approx((float(first[column]) + float(second[column])) / 2, rel=1e-4)
    # R1 belongs to the first iteration of two alone.
    assert both["discriminator/r1_penalty"] == first["discriminator/r1_penalty"] != ""
    assert second["discriminator/r1_penalty"] == ""


def test_scores_and_losses_of_the_first_iteration_belong_to_an_undecided_discriminator(
    train: Train, tmp_path: Path, read_rows: Callable[[Path], list[dict[str, str]]]
) -> None:
    """The logistic loss lies at log 2 for logits near 0, whatever the images are."""
    train("prior", tmp_path, "--run.total_images", 4, "--run.log_every_images", 4)
    (row,) = read_rows(tmp_path / "train.csv")
    real, generated = (float(row[f"discriminator/{name}_score"]) for name in ("real", "generated"))
    expected = torch.nn.functional.softplus(torch.tensor([-real, generated])).sum().item()
    assert float(row["discriminator/adversarial"]) == pytest.approx(expected, abs=0.05)
    assert row["generator/skipped"] == row["discriminator/skipped"] == "0"


def test_without_wishes_there_is_no_tracker() -> None:
    assert trackers(RunSettings(wandb="off")) == []


@pytest.mark.slow
def test_weights_and_biases_offline_gets_the_curves_in_images_seen_under_an_id_of_the_folder(
    train: Train, tmp_path: Path
) -> None:
    for total in (8, 16):
        train("restoration", tmp_path, "--run.total_images", total, "--run.wandb", "offline")
    runs = sorted((tmp_path / "wandb").glob("offline-run-*"))
    assert len({run.name.rsplit("-", 1)[1] for run in runs}) == 1  # one id, so that curves continue


def test_meters_that_were_restored_before_the_networks_moved_follow_them() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    meters, restored = Meters(), Meters()
    meters.add({"loss": torch.tensor(1.0), "rare": torch.tensor(5.0)})
    restored.restore(meters.state())
    restored.to("cuda")
    restored.add({"loss": torch.tensor(3.0, device="cuda")})
    assert restored.read() == {"loss": 2.0, "rare": 5.0}
