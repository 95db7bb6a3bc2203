"""Two processes train as one does with the same batch: images, randomness, minibatch groups, gradients."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

Launch = Callable[..., Any]
SHARED = [
    *("--model.init_args.minibatch_group_size", 2),
    *("--run.total_images", 24),
    *("--run.log_every_images", 8),
    *("--run.validate_every_images", 8),
    *("--run.checkpoint_every_images", 12),
]
# Adam turns the rounding of gradients near 0 into a share of its step, so the steps are kept small; they still add up
# to a hundred times the tolerance.
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
    # Path length is left out of the comparison: its running mean contains the process's own images.
    options = [*SHARED, "--model.init_args.regularization.path_length_interval", 0]
    options += [o for rate in RATES[stage] for o in (f"--model.init_args.optimization.{rate}", 2e-4)]
    for name, devices in (("one", 1), ("two", 2)):
        process = launch(stage, tmp_path / name, *options, "--trainer.devices", devices)
        output, errors = process.communicate(timeout=180)
        assert process.returncode == 0, errors
        assert output.count("24 of 24 images") == 1  # one process speaks
    one, two = read_checkpoint_file(tmp_path / "one"), read_checkpoint_file(tmp_path / "two")
    assert one["images_seen"] == two["images_seen"] == 24
    torch.testing.assert_close(two["state_dict"], one["state_dict"], rtol=1e-6, atol=1e-5)
    names = [sorted(p.name for p in (tmp_path / run / "checkpoints").iterdir()) for run in ("one", "two")]
    assert names[0] == names[1]
    for first, second in zip(read_rows(tmp_path / "one/train.csv"), read_rows(tmp_path / "two/train.csv"), strict=True):
        assert first.keys() == second.keys()
        for column, value in first.items():
            assert float(second[column]) == pytest.approx(float(value), rel=1e-3, abs=1e-4), column


@pytest.mark.slow
def test_two_processes_with_path_length_go_on_from_a_checkpoint_of_one(
    launch: Launch, tmp_path: Path, read_checkpoint_file: Callable[[Path], dict[str, Any]]
) -> None:
    options = ["--model.init_args.minibatch_group_size", 2]
    for total, devices in ((12, 1), (24, 2)):
        total_images = ["--run.total_images", total]
        process = launch("prior", tmp_path, *options, *total_images, "--trainer.devices", devices)
        _, errors = process.communicate(timeout=180)
        assert process.returncode == 0, errors
    content = read_checkpoint_file(tmp_path)
    assert content["images_seen"] == 24
    assert content["state_dict"]["mean_path_length"] > 0


@pytest.mark.slow
def test_a_batch_that_two_processes_cannot_share_is_refused_in_one_line(launch: Launch, tmp_path: Path) -> None:
    process = launch("prior", tmp_path, "--data.batch_size", 5, "--trainer.devices", 2)
    _, errors = process.communicate(timeout=180)
    assert process.returncode == 2
    message = (
        "the batch size must be divisible by the number of processes times run.num_parts, got 5 images for 2 processes"
    )
    assert message in errors and "Traceback" not in errors
