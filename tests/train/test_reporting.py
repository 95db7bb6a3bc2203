"""What a user sees of a run: terms, speed and time left on the console, in train.csv and in the trackers."""

import csv
import json
import re
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import wandb
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto import wandb_internal_pb2

from data.dataset import FaceImages
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


def numbers(rows: list[dict[str, str]]) -> dict[int, dict[str, float]]:
    """The values of each row by images seen."""
    return {
        int(row["images_seen"]): {name: float(value) for name, value in row.items() if value and name != "images_seen"}
        for row in rows
    }


@pytest.fixture
def read_table() -> Callable[[Path], dict[int, dict[str, float]]]:
    """Reads a table of a run with all its columns."""

    def read(path: Path) -> dict[int, dict[str, float]]:
        with path.open(newline="") as file:
            return numbers(list(csv.DictReader(file)))

    return read


def test_a_row_tells_speed_memory_waiting_norms_scores_skips_and_broken_files(
    train: Train, tmp_path: Path, read_table: Callable[[Path], dict[int, dict[str, float]]]
) -> None:
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
    train: Train, tmp_path: Path, faces: Path, read_table: Callable[[Path], dict[int, dict[str, float]]]
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
    train: Train,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    read_table: Callable[[Path], dict[int, dict[str, float]]],
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


def test_tensorboard_gets_the_keys_and_values_of_the_tables_at_the_same_images(
    train: Train, tmp_path: Path, read_table: Callable[[Path], dict[int, dict[str, float]]]
) -> None:
    train("restoration", tmp_path, "--run.total_images", 16, "--run.tensorboard", "true")
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for table in ("train.csv", "validation.csv"):
        for images_seen, row in read_table(tmp_path / table).items():
            for name, value in row.items():
                told = {event.step: event.value for event in events.Scalars(name)}
                assert told[images_seen] == pytest.approx(value, rel=1e-5, abs=1e-30), name


def wandb_records(path: Path) -> Iterator[bytes]:
    """The records of an offline run: LevelDB's log format, blocks of 32 KiB behind a header of 7 bytes."""
    content, position, parts = path.read_bytes(), 7, b""
    while position + 7 <= len(content):
        room = 32768 - position % 32768
        if room < 7:
            position += room
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        parts += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


@pytest.mark.slow
def test_weights_and_biases_gets_the_keys_and_values_of_the_tables_at_the_same_images(
    train: Train, tmp_path: Path, read_table: Callable[[Path], dict[int, dict[str, float]]]
) -> None:
    wandb.finish()  # a run of another test would be taken for this one
    train("restoration", tmp_path, "--run.total_images", 16, "--run.wandb", "offline")
    wandb.finish()
    (path,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    told: dict[int, dict[str, str]] = {}
    end = time.monotonic() + 120
    while "validation/psnr" not in told.get(16, {}) and time.monotonic() < end:  # another process writes the file
        for data in wandb_records(path):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            items = {".".join(i.nested_key) or i.key: i.value_json for i in record.history.item}
            if "trainer/global_step" in items:
                told.setdefault(int(json.loads(items["trainer/global_step"])), {}).update(items)
    for table in ("train.csv", "validation.csv"):
        for images_seen, row in read_table(tmp_path / table).items():
            for name, value in row.items():
                assert json.loads(told[images_seen][name]) == pytest.approx(value, rel=1e-5, abs=1e-30), name
