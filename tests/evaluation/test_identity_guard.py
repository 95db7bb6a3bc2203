import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from data.faces.files import open_faces
from evaluation.identity_guard import KEPT_UP_TO, LOST_FROM, STRENGTHS, IdentityGuard, count_verdicts, state
from evaluation.metrics.choice import FaceMetric, Metrics
from evaluation.metrics.identity import FaceEmbedding
from evaluation.metrics.image_metrics import psnr
from evaluation.pairs import FacePairs
from evaluation.protocol import Evaluator
from evaluation.reports.pictures import write_png
from evaluation.reports.tables import identity_sentence, write_evaluation, write_scores
from evaluation.scoring import ResultPairs, score_folder

pytest.importorskip("dlib")


def test_a_distance_is_read_by_the_measured_pairs() -> None:
    assert (KEPT_UP_TO, LOST_FROM) == (0.560, 0.664)
    middle = state(0.432)
    assert (middle.verdict, middle.two_people_share) == ("kept", 0)
    assert middle.one_person_share == pytest.approx(0.5)
    assert state(0.811).verdict == "lost" and state(0.811).two_people_share == pytest.approx(0.5)
    assert count_verdicts([0.0, 0.56, 0.6, 0.664, 2.0]) == {"kept": 2, "doubtful": 1, "lost": 2}


class Brightness:
    """Stands in for dlib: the distance of two faces is the difference of their mean, 1 for black beside white."""

    def distance(self, image: Tensor, target: Tensor) -> Tensor:
        return (image.double().mean((1, 2, 3)) - target.double().mean((1, 2, 3))).abs() / 255


@pytest.mark.parametrize(("mode", "expected"), [("mark", [1.0, 1.0, 1.0]), ("blend", [1.0, 0.75, 0.5])])
def test_a_restoration_that_moves_away_is_marked_or_blended_back_as_far_as_needed(
    mode: str, expected: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FaceEmbedding, "__init__", lambda self: None)
    monkeypatch.setattr(FaceEmbedding, "distance", lambda self, *pair: Brightness().distance(*pair))
    moved = torch.tensor([0.5, 0.7, 1.0]).view(3, 1, 1, 1) * 2  # in [-1, 1], twice the distance
    guard = IdentityGuard(lambda x: x + moved, mode)  # type: ignore[arg-type]
    degraded = torch.full((3, 3, 8, 8), -1.0)
    restored = guard(degraded)
    strengths = [face.strength for face in guard.faces]
    assert strengths == expected and set(strengths) <= set(STRENGTHS)
    torch.testing.assert_close(restored, degraded + moved * torch.tensor(expected).view(3, 1, 1, 1))
    assert [face.found.verdict for face in guard.faces] == ["kept", "lost", "lost"]
    assert all(face.written.verdict == ("kept" if mode == "blend" else face.found.verdict) for face in guard.faces)


def test_what_is_not_finite_is_passed_on_and_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FaceEmbedding, "__init__", lambda self: None)
    guard = IdentityGuard(lambda x: x / 0, "blend")
    assert guard(torch.ones(1, 3, 8, 8)).isinf().all() and not guard.faces


def _write(folder: Path, levels: Sequence[int]) -> Path:
    """Grey faces of 16 pixels, so bright each."""
    for index, level in enumerate(levels):
        write_png(folder / f"{index}.png", np.full((16, 16, 3), level, dtype=np.uint8))
    return folder


def test_every_face_of_an_evaluation_and_of_a_scored_folder_has_its_verdict_in_the_table(tmp_path: Path) -> None:
    levels = [51, 153, 204]  # 0.2, 0.6 and 0.8 away from black
    results, targets = (open_faces(_write(tmp_path / n, values)) for n, values in (("a", levels), ("b", [0, 0, 0])))
    metrics = Metrics((FaceMetric("psnr", "", psnr), FaceMetric("identity", "", Brightness().distance)))
    evaluation = Evaluator(FacePairs(targets, 16, results), metrics).evaluate(lambda degraded: degraded - 2)  # black
    scores = score_folder(ResultPairs(results, targets), metrics)
    write_evaluation(tmp_path / "evaluated", evaluation)
    write_scores(tmp_path / "scored", scores, metrics)
    tables, summaries = {}, {}
    for name in ("evaluated", "scored"):
        tables[name] = list(csv.DictReader((tmp_path / name / "per_image.csv").read_text().splitlines()))
        summaries[name] = json.loads((tmp_path / name / "metrics.json").read_text())["identity_verdicts"]
    verdicts = ["kept", "doubtful", "lost"]
    assert [row["degraded_identity_verdict"] for row in tables["evaluated"]] == verdicts
    assert [row["restored_identity_verdict"] for row in tables["evaluated"]] == ["kept"] * 3
    assert [row["identity_verdict"] for row in tables["scored"]] == verdicts
    assert summaries["scored"]["results"] == summaries["evaluated"]["degraded"] == dict.fromkeys(verdicts, 1)
    assert identity_sentence(scores).startswith("Identity of the target, results: kept 1, doubtful 1, lost 1 (identity")
    without = score_folder(ResultPairs(results, targets), Metrics(metrics.per_face[:1]))
    assert identity_sentence(without) == ""
