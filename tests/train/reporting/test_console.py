"""What a user sees of a run: terms, speed and time left on the console and in train.csv."""

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data.dataset import FaceImages
from system.machine import processor
from train.reporting.console import short_name
from train.reporting.tracking import read_table
from train.run.progress import Meters

Train = Callable[..., None]


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


def test_the_start_says_what_trains_on_what_and_where_it_goes_on(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("prior", tmp_path, "--run.total_images", 8)
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines() if ": " in line)
    assert lines["device"].endswith("1 process, 1 thread") and processor().split(" (")[0] in lines["device"]
    assert lines["precision"].startswith("32-true (")
    assert re.fullmatch(r"\d+ to train on, \d+ held out", lines["faces"])
    assert re.fullmatch(r"generator [\d,]+, discriminator [\d,]+", lines["parameters"])
    assert lines["run"] == f"{tmp_path} begins at image 0 of 8"
    train("prior", tmp_path, "--run.total_images", 16)
    checkpoint = tmp_path / "checkpoints" / "images_000000000008.ckpt"
    assert f"run: {tmp_path} continues at image 8 of 16 from {checkpoint}\n" in capsys.readouterr().out


def test_a_line_with_the_time_left_comes_early_however_far_apart_rows_are(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.reporting.console.SECONDS_TO_FIRST_LINE", 0.0)
    train("prior", tmp_path, "--run.total_images", 16, "--run.log_every_images", 16)
    lines = [line for line in capsys.readouterr().out.splitlines() if "images/s" in line]
    assert [line.split()[0] for line in lines] == ["4", "16"]
    assert re.search(r"4 of 16 images  \d+\.\d images/s  \d:\d\d:\d\d left$", lines[0])


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


def test_meters_that_were_restored_before_the_networks_moved_follow_them() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    meters, restored = Meters(), Meters()
    meters.add({"loss": torch.tensor(1.0), "rare": torch.tensor(5.0)})
    restored.restore(meters.state())
    restored.to("cuda")
    restored.add({"loss": torch.tensor(3.0, device="cuda")})
    assert restored.read() == {"loss": 2.0, "rare": 5.0}


def test_a_row_tells_speed_memory_waiting_norms_scores_skips_and_broken_files(train: Train, tmp_path: Path) -> None:
    train("restoration", tmp_path, "--run.total_images", 8, "--data.num_workers", 1)
    (row,) = read_table(tmp_path / "train.csv").values()
    assert 0 < row["speed/images_per_second"] < 10_000 and row["speed/seconds_left"] == 0
    assert 0 <= row["speed/loader_share"] <= 1
    assert 0.1 < row["memory/host_peak_gibibytes"] < 64  # torch alone takes more than a tenth
    names = ("gradient_norm", "r1_gradient_norm", "real_score", "generated_score", "skipped")
    assert {f"discriminator/{name}" for name in names} <= row.keys()
    assert {"generator/gradient_norm", "generator/path_length_gradient_norm", "generator/skipped"} <= row.keys()
    assert row["data/broken_files"] == row["data/substituted"] == row["generator/skipped"] == 0


def test_a_row_counts_broken_files_and_the_images_that_stand_in_for_them_also_over_a_restart(
    train: Train, tmp_path: Path, faces: Path
) -> None:
    broken = Path(shutil.copytree(faces, tmp_path / "faces"))
    (broken / "05.png").write_bytes(b"no picture")
    options = ["--data.faces", broken, "--run.log_every_images", 40]  # two epochs of 20 faces
    train("prior", tmp_path / "whole", "--run.total_images", 40, *options)
    for total_images in (24, 40):
        train("prior", tmp_path / "cut", "--run.total_images", total_images, *options)
    for name in ("whole", "cut"):
        (row,) = read_table(tmp_path / name / "train.csv").values()
        assert (row["data/broken_files"], row["data/substituted"]) == (1, 2)


def test_a_loader_that_holds_training_up_is_named_once_with_the_remedy(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = FaceImages.__getitem__

    def slowly(self: FaceImages, index: int) -> torch.Tensor:
        time.sleep(0.3)
        return read(self, index)

    monkeypatch.setattr(FaceImages, "__getitem__", slowly)
    train("prior", tmp_path, "--run.total_images", 16, "--run.validate_every_images", 1000)
    lines = [line for line in capsys.readouterr().out.splitlines() if "holds training up" in line]
    assert len(lines) == 1  # in two rows
    assert "raise --data.num_workers (now 0) or --data.cache_mebibytes" in lines[0]
    assert all(row["speed/loader_share"] > 0.3 for row in read_table(tmp_path / "train.csv").values())
