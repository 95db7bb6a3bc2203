"""A run keeps to the formulations of its convolutions that it measured once, whoever continues or repeats it."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.operators import formulations
from models.operators.formulations import Formulation
from train.run import record
from train.run.repetition import verify

Train = Callable[..., None]
MEASURED = ["--run.convolutions", "measured"]
LARGER = ["--model.init_args.architecture.resolution", 64, "--model.init_args.architecture.narrow", 0.25]
"""Large enough for a measurement."""


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Formulation]]:
    """A measurement without a clock: the last formulation wins; gives what was chosen. Tiny convolutions count too."""
    chosen: list[Formulation] = []

    def last(candidates: Mapping[Formulation, Callable[[], Tensor]]) -> Formulation:
        chosen.append(list(candidates)[-1])
        return chosen[-1]

    monkeypatch.setattr(record, "fastest", last)
    monkeypatch.setattr(formulations, "LEAST_OPERATIONS", 0)
    monkeypatch.setattr(formulations, "TILES", {"tiles_32": 8, "tiles_16": 4})
    yield chosen


def choices_of(folder: Path) -> dict[str, str]:
    choices: dict[str, str] = json.loads((folder / "run.json").read_text())["convolutions"]
    return choices


@pytest.mark.parametrize("stage", ["prior", "restoration"])
def test_a_continued_run_measures_nothing_again_and_equals_the_whole_run_bit_for_bit(
    stage: str,
    train: Train,
    tmp_path: Path,
    measured: list[Formulation],
    monkeypatch: pytest.MonkeyPatch,
    read_checkpoint_file: Callable[[Path], dict[str, Any]],
    differences: Callable[[Any, Any], list[str]],
) -> None:
    train(stage, tmp_path / "whole", "--run.total_images", 24, *MEASURED)
    choices = choices_of(tmp_path / "whole")
    assert len(choices) == len(measured) > 10 and {"tiles_16", "product"} <= set(choices.values())
    train(stage, tmp_path / "cut", "--run.total_images", 12, *MEASURED)
    assert choices_of(tmp_path / "cut") == choices

    def refuse(candidates: Mapping[Formulation, Callable[[], Tensor]]) -> Formulation:
        raise AssertionError("measured again")

    monkeypatch.setattr(record, "fastest", refuse)
    train(stage, tmp_path / "cut", "--run.total_images", 24, *MEASURED)
    one, other = (read_checkpoint_file(tmp_path / name) for name in ("whole", "cut"))
    assert differences(one["state_dict"], other["state_dict"]) == []
    train(stage, tmp_path / "plain", "--run.total_images", 24)
    plain = read_checkpoint_file(tmp_path / "plain")
    assert differences(one["state_dict"], plain["state_dict"]) != []  # the choice was obeyed
    assert "convolutions" not in json.loads((tmp_path / "plain/run.json").read_text())


def test_another_runs_record_gives_that_runs_choices(train: Train, tmp_path: Path, measured: list[Formulation]) -> None:
    train("prior", tmp_path / "one", "--run.total_images", 4, *MEASURED)
    measured.clear()
    train("prior", tmp_path / "two", "--run.total_images", 4, "--run.convolutions", tmp_path / "one/run.json")
    assert measured == [] and choices_of(tmp_path / "two") == choices_of(tmp_path / "one")


def test_what_is_no_record_is_refused_in_one_line(tmp_path: Path, fail: Callable[..., str]) -> None:
    message = fail("prior", tmp_path / "run", "--run.convolutions", "fastest")
    assert message.startswith("run.convolutions must be measured, whole or the run.json of a run, got fastest")


@pytest.mark.slow
def test_verification_takes_the_choices_of_the_run_it_repeats(train: Train, tmp_path: Path) -> None:
    options = [*LARGER, "--run.total_images", 8, "--run.log_every_images", 8]
    train("prior", tmp_path / "first", *options, *MEASURED)
    choices = {name: "tiles_16" for name in choices_of(tmp_path / "first") if name.startswith("weight of 4x")}
    (tmp_path / "other.json").write_text(json.dumps({"convolutions": choices}))
    train("prior", tmp_path / "run", *options, "--run.convolutions", tmp_path / "other.json")
    assert "tiles_16" in choices_of(tmp_path / "run").values()  # whatever is fastest on this machine
    assert verify(tmp_path / "run", 8)


@pytest.mark.slow
def test_two_processes_take_the_choices_of_the_first(
    launch: Callable[..., Any], tmp_path: Path, read_checkpoint_file: Callable[[Path], dict[str, Any]]
) -> None:
    options = [*LARGER, "--data.batch_size", 8, "--run.total_images", 8, *MEASURED, "--trainer.devices", 2]
    process = launch("prior", tmp_path / "two", *options)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert any(name.startswith("weight of 4x") for name in choices_of(tmp_path / "two"))
    assert torch.isfinite(read_checkpoint_file(tmp_path / "two")["state_dict"]["mean_path_length"])
