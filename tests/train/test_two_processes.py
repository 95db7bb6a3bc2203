"""Two processes train as one does with the same batch: images, randomness, minibatch groups, gradients."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
Launch = Callable[..., Any]
SHARED = [
    *("--model.init_args.computation.minibatch_group_size", 2),
    *("--run.total_images", 24),
    *("--run.log_every_images", 8),
    *("--run.validate_every_images", 8),
    *("--run.checkpoint_every_images", 12),
]
# Adam divides a gradient by its own size: where it is no larger than its rounding (at features whose noise strength is
# still 0), its sign may change and move a weight by two steps. Such weights are few (3 in 10,000), and steps are small.
STEP = 2e-4
RATES = {
    "prior": ["generator_learning_rate", "discriminator_learning_rate"],
    "restoration": ["encoder_learning_rate", "decoder_learning_rate", "discriminator_learning_rate"],
}


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["prior", "restoration"])
def test_two_processes_end_with_the_weights_tables_and_progress_of_one(
    stage: str,
    launch: Launch,
    tmp_path: Path,
    read_checkpoint_file: Callable[[Path], dict[str, Any]],
    read_rows: Callable[[Path], list[dict[str, str]]],
) -> None:
    options = [*SHARED]
    options += [o for rate in RATES[stage] for o in (f"--model.init_args.optimization.{rate}", STEP)]
    for name, devices in (("one", 1), ("two", 2)):
        process = launch(stage, tmp_path / name, *options, "--trainer.devices", devices)
        output, errors = process.communicate(timeout=180)
        assert process.returncode == 0, errors
        assert output.count("24 of 24 images") == 1  # one process speaks
    one, two = read_checkpoint_file(tmp_path / "one"), read_checkpoint_file(tmp_path / "two")
    assert one["images_seen"] == two["images_seen"] == 24
    assert two["state_dict"].keys() == one["state_dict"].keys()
    pairs = [(two["state_dict"][name].double(), tensor.double()) for name, tensor in one["state_dict"].items()]
    difference = torch.cat([(a - b).abs().flatten() for a, b in pairs])
    assert difference.max() < 2 * STEP
    assert (difference > STEP / 20).double().mean() < 1e-3
    names = [sorted(p.name for p in (tmp_path / run / "checkpoints").iterdir()) for run in ("one", "two")]
    assert names[0] == names[1]
    for first, second in zip(read_rows(tmp_path / "one/train.csv"), read_rows(tmp_path / "two/train.csv"), strict=True):
        assert first.keys() == second.keys()
        for column, value in first.items():
            assert float(second[column]) == pytest.approx(float(value), rel=1e-3, abs=1e-3), column


@pytest.mark.slow
def test_a_run_moves_from_one_process_to_two_and_back_within_a_row_of_its_log(
    launch: Launch,
    tmp_path: Path,
    read_checkpoint_file: Callable[[Path], dict[str, Any]],
    read_rows: Callable[[Path], list[dict[str, str]]],
) -> None:
    options = ["--model.init_args.computation.minibatch_group_size", 2, "--run.log_every_images", 12]
    options += [o for rate in RATES["prior"] for o in (f"--model.init_args.optimization.{rate}", 2e-4)]
    sessions = {"moved": ((8, 1), (16, 2), (24, 1)), "stayed": ((24, 1),)}
    for name, parts in sessions.items():
        for total_images, devices in parts:
            more = ["--run.total_images", total_images, "--trainer.devices", devices]
            process = launch("prior", tmp_path / name, *options, *more)
            _, errors = process.communicate(timeout=900)
            assert process.returncode == 0, errors
    moved, stayed = (read_checkpoint_file(tmp_path / name) for name in ("moved", "stayed"))
    torch.testing.assert_close(moved["state_dict"], stayed["state_dict"], rtol=1e-5, atol=1e-4)
    assert stayed["state_dict"]["mean_path_length"] > 0
    rows = [read_rows(tmp_path / name / "train.csv") for name in ("moved", "stayed")]
    assert [row["images_seen"] for row in rows[0]] == ["12", "24"]
    for one, other in zip(*rows, strict=True):
        for column, value in other.items():
            assert (one[column] == value == "") or float(one[column]) == pytest.approx(float(value), rel=1e-3, abs=1e-3)


@pytest.mark.slow
def test_processes_of_torchrun_begin_together_where_the_first_replaces_a_run(
    arguments: Callable[..., list[str]], tmp_path: Path, read_checkpoint_file: Callable[[Path], dict[str, Any]]
) -> None:
    division = ["--model.init_args.computation.minibatch_group_size", 2, "--run.total_images", 8]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29555"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "https_proxy": "http://127.0.0.1:9"}
    for seed in (1, 2, 2):
        options = [*division, "--run.seed", seed, "--run.overwrite", "true", "--trainer.devices", 2]
        words = [*command, "-m", "train", *arguments("prior", tmp_path / "run", *options)]
        done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("8 of 8 images") == 1
        assert read_checkpoint_file(tmp_path / "run")["seed"] == seed
        assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["images_000000000008.ckpt"]
    refused = subprocess.run(
        [*command, "-m", "train", *arguments("prior", tmp_path / "run", *division, "--trainer.devices", 2)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert refused.returncode != 0 and "error: " in refused.stderr and "run.seed was 2, now 0" in refused.stderr
    assert refused.stderr.count("Traceback") == 1  # that of torchrun itself


@pytest.mark.slow
def test_a_batch_that_two_processes_cannot_share_is_refused_in_one_line(launch: Launch, tmp_path: Path) -> None:
    process = launch("prior", tmp_path, "--data.batch_size", 5, "--trainer.devices", 2)
    _, errors = process.communicate(timeout=180)
    assert process.returncode == 2
    message = (
        "the batch size must be divisible by the number of processes times run.num_parts, got 5 images for 2 processes"
    )
    assert message in errors and "Traceback" not in errors
