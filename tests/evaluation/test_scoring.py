from pathlib import Path

import numpy as np
import pytest

from data.faces.files import open_faces
from evaluation.metrics.choice import choose_metrics
from evaluation.reports.pictures import write_png
from evaluation.scoring import ResultPairs, score_folder


def _write(folder: Path, side: int, shift: int) -> Path:
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 200, (side, side, 3), dtype=np.uint8)
        write_png(folder / f"{index}.png", pixels + np.uint8(shift))
    return folder


def test_results_are_scored_at_their_targets_size_under_every_convention(tmp_path: Path) -> None:
    results, targets = open_faces(_write(tmp_path / "a", 40, 10)), open_faces(_write(tmp_path / "b", 40, 0))
    scores = score_folder(ResultPairs(results, targets), choose_metrics(["psnr"]), crop_border=4)
    closed = 20 * np.log10(255 / 10)
    assert scores.means["psnr"].mean == pytest.approx(closed) and scores.sizes == {"40 x 40": 3}
    rgb, luma, *others = [means.psnr.mean for means in scores.conventions]
    assert [rgb, *others] == pytest.approx([closed] * 3)
    assert luma == pytest.approx(20 * np.log10(255 / (10 * 219 / 255)))  # Y spans 219 grey levels


def test_results_of_another_size_are_refused_unless_both_are_resized(tmp_path: Path) -> None:
    results, targets = open_faces(_write(tmp_path / "a", 20, 0)), open_faces(_write(tmp_path / "b", 40, 0))
    metrics = choose_metrics(["psnr"])
    with pytest.raises(ValueError, match=r"0\.png has 20 x 20 and its target 40 x 40; give --resolution"):
        score_folder(ResultPairs(results, targets), metrics)
    assert score_folder(ResultPairs(results, targets, resolution=16), metrics).sizes == {"16 x 16": 3}
    with pytest.raises(ValueError, match="crop_border must leave something"):
        score_folder(ResultPairs(targets, targets), metrics, crop_border=20)


def test_sets_are_compared_with_the_reference_where_there_is_one(tmp_path: Path) -> None:
    results, other = open_faces(_write(tmp_path / "a", 40, 0)), open_faces(_write(tmp_path / "c", 40, 50))
    pairs, metrics = ResultPairs(results, results), choose_metrics(["fd_lite0"])
    assert score_folder(pairs, metrics).means["fd_lite0"].mean == pytest.approx(0, abs=1e-4)
    assert score_folder(pairs, metrics, reference=other).means["fd_lite0"].mean > 0.1
