"""An update that is not finite leaves a dump from which it can be repeated; n in a row end the run."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from data.dataset import FaceBatch
from models.files.run_folder import check_seal
from scripts import replay_update
from tests.fixtures.runs import Run
from tests.test_documents import lines_to_run
from train.run.progress import Divergence, SkippedUpdates
from train.stages.restoration import RestorationTraining
from train.updates.adversarial import Regularization

Train = Callable[..., None]
ROW = ["--run.log_every_images", 8, "--run.checkpoint_every_images", 8, "--run.keep_checkpoints", 9]


@pytest.fixture
def break_generator_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[int]], None]:
    """Makes the loss of the generator NaN in the iterations that begin after so many images."""
    loss = RestorationTraining._generator_loss

    def broken_at(moments: Sequence[int]) -> None:
        def broken(self: RestorationTraining, restored: Tensor, target: Tensor, places: Tensor | None) -> Any:
            part = loss(self, restored, target, places)
            is_broken = self.progress.images_seen in moments
            return part._replace(loss=part.loss * float("nan")) if is_broken else part

        monkeypatch.setattr(RestorationTraining, "_generator_loss", broken)

    return broken_at


def test_a_skipped_update_is_counted_dumped_and_training_goes_on(
    train: Train,
    tmp_path: Path,
    break_generator_at: Callable[[Sequence[int]], None],
    read_rows: Callable[[Path], list[dict[str, str]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    break_generator_at([12])
    train("restoration", tmp_path, "--run.total_images", 24, *ROW)
    rows = {int(row["images_seen"]): row for row in read_rows(tmp_path / "train.csv")}
    assert [rows[images]["generator/skipped"] for images in (8, 16, 24)] == ["0", "1", "0"]
    assert [rows[images]["discriminator/skipped"] for images in (8, 16, 24)] == ["0", "0", "0"]
    (dump,) = (tmp_path / "non_finite").iterdir()
    report = json.loads((dump / "report.json").read_text())
    assert report["first"] == 12 and report["noticed_at"] == 16
    assert report["skipped_updates_at_images_seen"] == {"generator": [12], "discriminator": []}
    assert check_seal(dump / "state.ckpt") and check_seal(dump / "before.ckpt")
    assert torch.load(dump / "state.ckpt", weights_only=True)["images_seen"] == 12
    assert torch.load(dump / "before.ckpt", weights_only=True)["images_seen"] == 8
    assert f"python -m scripts.replay_update {dump}" in capsys.readouterr().out


def test_the_number_of_dumps_is_bounded(
    train: Train, tmp_path: Path, break_generator_at: Callable[[Sequence[int]], None]
) -> None:
    break_generator_at([0, 8, 16, 24, 32])
    train("restoration", tmp_path, "--run.total_images", 40, *ROW)
    assert sorted(path.name[-2:] for path in (tmp_path / "non_finite").iterdir()) == ["00", "08", "16"]


def test_skipped_updates_in_a_row_are_fatal_and_those_with_good_ones_between_are_not(
    train: Train, tmp_path: Path, break_generator_at: Callable[[Sequence[int]], None]
) -> None:
    most = ["--run.max_skipped_updates", 3, "--model.init_args.regularization.path_length_interval", 0]
    break_generator_at([0, 4, 12, 16, 24])
    train("restoration", tmp_path / "between", "--run.total_images", 32, *ROW, *most)
    break_generator_at([4, 8, 12])
    with pytest.raises(ValueError, match=r"3 updates of the generator in a row were skipped \(run.max_skipped_updates"):
        train("restoration", tmp_path / "row", "--run.total_images", 32, *ROW, *most)
    assert (tmp_path / "row" / "non_finite" / "images_000000000004" / "state.ckpt").is_file()


def test_rows_of_skips_are_counted_over_readings_and_checkpoints() -> None:
    updates = SkippedUpdates()
    for images_seen, flag in ((0, 1.0), (4, 0.0), (8, 1.0)):
        updates.add("generator", images_seen, torch.tensor(flag))
    first = updates.read()["generator"]
    assert (first.images_seen, first.longest_row) == ([0, 8], 1)
    updates.add("generator", 12, torch.tensor(1.0))
    restored = SkippedUpdates()
    restored.restore(updates.state())
    restored.add("generator", 16, torch.tensor(1.0))
    restored.add("discriminator", 16, torch.tensor(0.0))
    second = restored.read()
    assert (second["generator"].images_seen, second["generator"].longest_row) == ([12, 16], 3)
    assert (second["discriminator"].images_seen, second["discriminator"].longest_row) == ([], 0)
    assert restored.read()["generator"].longest_row == 0


def test_many_flags_are_packed_and_none_is_lost() -> None:
    updates = SkippedUpdates()
    broken = {3, 255, 256, 300, 599}
    for index in range(600):
        updates.add("discriminator", index, torch.tensor(float(index in broken)))
    assert len(updates._flags) < 256
    assert updates.read()["discriminator"].images_seen == sorted(broken)


def test_a_mean_path_length_that_is_not_finite_is_not_kept(
    fit: Callable[..., Any], make_batch: Callable[[Sequence[int]], FaceBatch], tiny: Any, monkeypatch: Any
) -> None:
    regularization = Regularization(r1_interval=0, path_length_interval=1)
    module = RestorationTraining(tiny, degradation="small", regularization=regularization)
    styled = module._restore_styled

    def broken(*arguments: Any) -> Any:
        images = styled(*arguments)
        return images._replace(direction=images.direction * float("nan"))

    monkeypatch.setattr(module, "_restore_styled", broken)
    fit(module, [make_batch(range(4))])
    assert module.mean_path_length == 0
    assert module.progress.skipped.read()["generator"].images_seen == [0]


def test_losses_beyond_every_sensible_range_are_said_once_and_end_the_run_after_a_while() -> None:
    divergence = Divergence(patience=20, batch_size=4)
    fine = {"discriminator/real_score": -80.0, "discriminator/r1_penalty": 1e9, "generator/gradient_norm": 1e9}
    assert divergence.look(fine, 40) == ""
    wild = fine | {"discriminator/real_score": -1e13}
    assert "training diverges: discriminator/real_score is -1.0e+13 at image 80" in divergence.look(wild, 80)
    assert divergence.look(fine, 120) == ""  # a single row is borne
    assert divergence.look(wild, 160) != "" and divergence.look(wild, 200) == ""
    with pytest.raises(ValueError, match="since image 160; lower the learning rates"):
        divergence.look(wild, 240)


@pytest.mark.slow
def test_a_dump_of_broken_weights_is_replayed_as_the_documents_have_it(
    launch: Callable[..., Any], run: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    broken = ["--model.init_args.optimization.generator_learning_rate", "1e30", "--run.max_skipped_updates", 3]
    process = launch("prior", folder, "--run.total_images", 40, *ROW, *broken)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2 and "in a row were skipped" in errors
    dump, *_ = sorted((folder / "non_finite").iterdir())
    (line,) = lines_to_run("scripts.replay_update", in_sentences=True)
    _, exact, anomaly = line.words[3:]
    for option, finding in ((exact, "are skipped again"), (anomaly, "returned nan values")):
        code, out, err = run(replay_update.main, dump, option)
        assert code == 0 and finding in out, (out, err)
