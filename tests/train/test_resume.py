"""A run that was interrupted and continued by the same command equals the uninterrupted run bit for bit."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.files.run_folder import find_checkpoint
from train.run.checkpoints import RunCheckpoints

Train = Callable[..., None]
Launch = Callable[..., Any]
PICTURES = {"prior": "samples", "restoration": "pictures"}


@pytest.fixture
def check_same_run(
    read_checkpoint_file: Callable[[Path], dict[str, Any]],
    read_rows: Callable[[Path], list[dict[str, str]]],
    differences: Callable[[Any, Any], list[str]],
) -> Callable[[str, Path, Path], None]:
    """Compares the last checkpoints, the tables and the pictures of two runs."""

    def check(stage: str, one: Path, other: Path) -> None:
        first, second = read_checkpoint_file(one), read_checkpoint_file(other)
        for name in ("images_seen", "state_dict", "optimizer_states", "meters", "callbacks"):
            assert differences(first[name], second[name]) == [], name
        tables = ["train.csv"] if stage == "prior" else ["train.csv", "validation.csv"]
        for table in tables:
            assert read_rows(one / table) == read_rows(other / table) != []
        pictures = sorted((one / PICTURES[stage]).iterdir())
        assert len(pictures) > 1
        for picture in pictures:
            assert picture.read_bytes() == (other / PICTURES[stage] / picture.name).read_bytes()

    return check


@pytest.mark.parametrize("stage", ["prior", "restoration"])
@pytest.mark.parametrize("options", [[], ["--trainer.precision", "bf16-mixed"]], ids=["float32", "bf16"])
def test_a_run_cut_in_two_equals_the_whole_run_bit_for_bit(
    stage: str, options: list[str], train: Train, tmp_path: Path, check_same_run: Callable[..., None]
) -> None:
    # Iterations 0, 2 and 4 compute the lazy terms; the cut after three iterations lies within a row of train.csv.
    train(stage, tmp_path / "whole", "--run.total_images", 24, *options)
    train(stage, tmp_path / "cut", "--run.total_images", 12, *options)
    train(stage, tmp_path / "cut", "--run.total_images", 24, *options)
    check_same_run(stage, tmp_path / "whole", tmp_path / "cut")


SCHEDULE = "--model.init_args.optimization.schedule"


@pytest.mark.parametrize("stage", ["prior", "restoration"])
def test_a_run_with_schedules_and_components_cut_within_them_equals_the_whole_run_bit_for_bit(
    stage: str,
    train: Train,
    tmp_path: Path,
    check_same_run: Callable[..., None],
    read_rows: Callable[[Path], list[dict[str, str]]],
) -> None:
    schedule = [f"{SCHEDULE}.warm_up_images", 16, f"{SCHEDULE}.decay", "linear"]
    schedule += [f"{SCHEDULE}.decay_range_images", "[8,40]", f"{SCHEDULE}.last_share", 0.2]
    schedule += ["--model.init_args.optimization.clip_norm", "{generator: 0.1, discriminator: 0.1}"]
    if stage == "restoration":
        schedule += ["--model.init_args.loss_weights.adversarial_rise_images", "[8,32]"]
        schedule += ["--model.init_args.loss_weights.components", 0.5]
    train(stage, tmp_path / "whole", "--run.total_images", 24, *schedule)
    train(stage, tmp_path / "cut", "--run.total_images", 12, *schedule)
    train(stage, tmp_path / "cut", "--run.total_images", 24, *schedule)
    check_same_run(stage, tmp_path / "whole", tmp_path / "cut")
    rows = read_rows(tmp_path / "whole" / "train.csv")
    assert [row["learning_rate/factor"] for row in rows] == ["0.5", "0.8", "0.6"]
    if stage == "restoration":
        assert [row["loss_weight/adversarial"] for row in rows] == ["0", "0.333333", "0.666667"]


def test_a_run_whose_augmentation_adapts_cut_within_an_interval_equals_the_whole_run_bit_for_bit(
    train: Train,
    tmp_path: Path,
    check_same_run: Callable[..., None],
    read_checkpoint_file: Callable[[Path], dict[str, Any]],
) -> None:
    options = [
        "--model.init_args.augmentation",
        "{target: 0.6, initial_probability: 0.5, rise_images: 160, interval: 2}",
    ]
    train("prior", tmp_path / "whole", "--run.total_images", 24, *options)
    train("prior", tmp_path / "cut", "--run.total_images", 12, *options)  # after three iterations
    train("prior", tmp_path / "cut", "--run.total_images", 24, *options)
    check_same_run("prior", tmp_path / "whole", tmp_path / "cut")
    probability = read_checkpoint_file(tmp_path / "whole")["state_dict"]["augmentation.probability"]
    assert float(probability) in (pytest.approx(0.5 + change) for change in (-0.15, -0.05, 0.05, 0.15))


@pytest.mark.parametrize("stage", ["prior", "restoration"])
def test_reading_in_a_worker_changes_nothing_also_when_only_one_half_does(
    stage: str, train: Train, tmp_path: Path, check_same_run: Callable[..., None]
) -> None:
    train(stage, tmp_path / "whole", "--run.total_images", 24, "--data.num_workers", 1)
    train(stage, tmp_path / "cut", "--run.total_images", 12, "--data.num_workers", 1)
    train(stage, tmp_path / "cut", "--run.total_images", 24, "--data.num_workers", 0)
    check_same_run(stage, tmp_path / "whole", tmp_path / "cut")


def test_a_run_killed_beyond_its_checkpoint_goes_back_to_it(
    train: Train, tmp_path: Path, check_same_run: Callable[..., None]
) -> None:
    rhythm = ["--run.checkpoint_every_images", 8]
    train("prior", tmp_path / "whole", "--run.total_images", 24, *rhythm)
    train("prior", tmp_path / "killed", "--run.total_images", 20, *rhythm)
    for path in sorted((tmp_path / "killed" / "checkpoints").iterdir())[1:]:
        path.unlink()  # as if it had been killed before they were written
    assert "\n16," in (tmp_path / "killed" / "train.csv").read_text()
    train("prior", tmp_path / "killed", "--run.total_images", 24, *rhythm)
    check_same_run("prior", tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize("stage", ["prior", "restoration"])
def test_a_run_ends_with_a_row_figures_and_a_picture_whatever_the_rhythm(
    stage: str,
    train: Train,
    tmp_path: Path,
    read_rows: Callable[[Path], list[dict[str, str]]],
    read_checkpoint_file: Callable[[Path], dict[str, Any]],
) -> None:
    train(stage, tmp_path, "--run.total_images", 12)  # rows every 8, validation every 16
    assert [row["images_seen"] for row in read_rows(tmp_path / "train.csv")] == ["8", "12"]
    assert sorted(path.stem for path in (tmp_path / PICTURES[stage]).iterdir()) == [
        "images_000000000000",
        "images_000000000012",
    ]
    if stage == "restoration":
        rows = {row["images_seen"]: float(row["validation/psnr"]) for row in read_rows(tmp_path / "validation.csv")}
        assert list(rows) == ["0", "12"]
        best = read_checkpoint_file(tmp_path)["callbacks"]["RunCheckpoints"]["best"]
        assert best[1] == int(max(rows, key=lambda images_seen: rows[images_seen]))
    train(stage, tmp_path, "--run.total_images", 16)  # goes on as if it had been as long from the beginning
    assert [row["images_seen"] for row in read_rows(tmp_path / "train.csv")] == ["8", "16"]


def test_repeating_the_command_of_a_complete_run_changes_nothing_and_says_so(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("prior", tmp_path, "--run.total_images", 8)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    train("prior", tmp_path, "--run.total_images", 8)
    assert "is complete with 8 images" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_run_cannot_be_continued_with_another_seed(train: Train, tmp_path: Path) -> None:
    train("prior", tmp_path, "--run.total_images", 4)
    with pytest.raises(ValueError, match=r"\(run\.seed was 0, now 1; 1 differ in all\)"):
        train("prior", tmp_path, "--run.total_images", 8, "--run.seed", 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_ends_the_run_with_a_checkpoint_from_which_it_continues_as_if_nothing_had_happened(
    number: signal.Signals, train: Train, launch: Launch, tmp_path: Path, check_same_run: Callable[..., None]
) -> None:
    stage = {signal.SIGTERM: "restoration", signal.SIGINT: "prior"}[number]
    process = launch(stage, tmp_path / "ended", "--run.total_images", 100_000)
    table = tmp_path / "ended" / "train.csv"
    wait_for(lambda: table.is_file() and table.read_text().count("\n") > 1, process)
    process.send_signal(number)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number, errors
    assert errors.strip() == "" and "the same command continues the run" in output
    (checkpoint,) = (tmp_path / "ended" / "checkpoints").iterdir()
    images_seen = int(checkpoint.stem.removeprefix("images_"))
    assert 8 <= images_seen < 100_000
    total = images_seen + 8
    train(stage, tmp_path / "ended", "--run.total_images", total)
    train(stage, tmp_path / "whole", "--run.total_images", total)
    check_same_run(stage, tmp_path / "whole", tmp_path / "ended")


def wait_for(condition: Callable[[], bool], process: Any) -> None:
    """Waits until a condition holds; fails if the process ends or two minutes pass before."""
    end = time.monotonic() + 120
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            pytest.fail(f"the run did not get so far: {process.communicate()}")
        time.sleep(0.05)


def test_the_last_checkpoints_and_the_best_by_validation_are_kept_also_over_a_restart(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = {0: 10.0, 8: 30.0, 16: 20.0, 24: 15.0, 32: 25.0, 40: 31.0, 44: 30.5}
    offer = RunCheckpoints.offer_best
    monkeypatch.setattr(RunCheckpoints, "offer_best", lambda self, _, images: offer(self, figures[images], images))
    options = ["--run.keep_checkpoints", 2, "--run.checkpoint_every_images", 4, "--run.validate_every_images", 8]

    def kept(total_images: int) -> list[int]:
        train("restoration", tmp_path, "--run.total_images", total_images, *options)
        return sorted(int(path.stem[-12:]) for path in (tmp_path / "checkpoints").iterdir())

    assert kept(24) == [8, 20, 24]
    assert kept(32) == [8, 28, 32]
    assert kept(44) == [40, 44]


@pytest.mark.parametrize("at_start", [10.0, 40.0])  # what a run starts from may be better than all that it writes
def test_a_best_figure_between_two_checkpoints_is_written_at_once(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_start: float
) -> None:
    figures = {0: at_start, 8: 30.0, 16: 20.0, 20: 25.0}
    offer = RunCheckpoints.offer_best
    monkeypatch.setattr(RunCheckpoints, "offer_best", lambda self, _, images: offer(self, figures[images], images))
    train("restoration", tmp_path, "--run.total_images", 20, "--run.validate_every_images", 8)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["images_000000000008.ckpt", "images_000000000020.ckpt"]
    assert find_checkpoint(tmp_path / "best").name == names[0]


def test_without_a_validation_figure_the_last_checkpoints_are_kept(train: Train, tmp_path: Path) -> None:
    train("prior", tmp_path, "--run.total_images", 20, "--run.keep_checkpoints", 2, "--run.checkpoint_every_images", 4)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["images_000000000016.ckpt", "images_000000000020.ckpt"]
