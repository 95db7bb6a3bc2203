import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from data.degradation.presets import DegradationRanges, load_preset
from data.faces.files import FaceFiles, open_faces
from evaluation.metrics.choice import FaceMetric, Metrics, choose_metrics, fid_metric
from evaluation.metrics.image_metrics import psnr
from evaluation.pairs import FacePairs, PairBatch, reduction_warning
from evaluation.protocol import Evaluation, Evaluator
from evaluation.reports.pictures import write_png
from evaluation.reports.tables import metrics_json, per_image_csv, summary_rows, write_evaluation


@pytest.fixture
def ranges() -> DegradationRanges:
    return load_preset("small")


def _smooth(degraded: Tensor) -> Tensor:
    """Stands for a network: a box filter."""
    return nn.functional.avg_pool2d(degraded, 3, 1, padding=1, count_include_pad=False)


def _evaluate(faces: FaceFiles, seed: int = 0, batch_size: int = 3) -> Evaluation:
    return Evaluator(FacePairs(faces, 32, "small", seed, batch_size), choose_metrics()).evaluate(_smooth)


def test_stored_pairs_give_the_numbers_of_the_preset_they_were_stored_from(
    drawn_faces: FaceFiles, ranges: DegradationRanges, tmp_path: Path
) -> None:
    for batch in FacePairs(drawn_faces, 32, "small", seed=5):
        for name, degraded, target in zip(*batch, strict=True):
            write_png(tmp_path / "stored" / "degraded" / name, degraded.permute(1, 2, 0).numpy())
            write_png(tmp_path / "stored" / "target" / name, target.permute(1, 2, 0).numpy())
    stored = [open_faces(tmp_path / "stored" / folder) for folder in ("degraded", "target")]
    from_files = Evaluator(FacePairs(stored[1], 32, stored[0]), choose_metrics()).evaluate(_smooth)
    directly = _evaluate(drawn_faces, seed=5)
    assert from_files.rows == directly.rows
    assert from_files.restored == directly.restored
    assert from_files.protocol.images_fingerprint == directly.protocol.images_fingerprint


def test_the_batch_size_changes_nothing_and_the_seed_does(drawn_faces: FaceFiles, ranges: DegradationRanges) -> None:
    one_by_one = _evaluate(drawn_faces, batch_size=1)
    together = _evaluate(drawn_faces, batch_size=7)
    assert one_by_one.rows == together.rows
    assert one_by_one.protocol == together.protocol
    other = _evaluate(drawn_faces, seed=1)
    assert other.protocol.images_fingerprint != together.protocol.images_fingerprint


def test_the_first_faces_of_a_set_are_degraded_as_in_the_whole_set(
    drawn_faces: FaceFiles, ranges: DegradationRanges
) -> None:
    few = Evaluator(FacePairs(drawn_faces, 32, "small", batch_size=2, max_faces=4), choose_metrics()).evaluate(_smooth)
    assert few.protocol.num_faces == 4
    assert few.rows == _evaluate(drawn_faces).rows[:4]


def test_the_network_gets_eight_bit_values_between_minus_one_and_one(
    drawn_faces: FaceFiles, ranges: DegradationRanges
) -> None:
    seen: list[Tensor] = []

    def restore(degraded: Tensor) -> Tensor:
        seen.append(degraded)
        return degraded

    evaluation = Evaluator(FacePairs(drawn_faces, 32, "small"), choose_metrics()).evaluate(restore)
    levels = (torch.cat(seen) + 1) * 127.5
    assert torch.allclose(levels, levels.round(), atol=1e-3)
    assert levels.min() >= 0 and levels.max() <= 255
    assert all(row.restored == row.degraded for row in evaluation.rows)
    assert evaluation.difference["psnr"].low == evaluation.difference["psnr"].high == 0


def test_every_number_of_a_row_is_the_metric_of_that_face(drawn_faces: FaceFiles, ranges: DegradationRanges) -> None:
    evaluation = _evaluate(drawn_faces)
    batch = next(iter(FacePairs(drawn_faces, 32, "small")))
    assert [row.name for row in evaluation.rows] == drawn_faces.names
    assert [row.degraded["psnr"] for row in evaluation.rows] == psnr(batch.degraded, batch.target).tolist()


def test_the_mean_of_the_csv_is_the_mean_of_the_json(drawn_faces: FaceFiles, ranges: DegradationRanges) -> None:
    evaluation = _evaluate(drawn_faces)
    table = list(csv.DictReader(io.StringIO(per_image_csv(evaluation))))
    summary = json.loads(metrics_json(evaluation))
    assert len(table) == summary["protocol"]["num_faces"] == 7
    for state in ("degraded", "restored"):
        for metric, value in summary[state].items():
            column = [float(row[f"{state}_{metric}"]) for row in table]
            assert sum(column) / 7 == pytest.approx(value["mean"], abs=1e-12)
            assert value["low"] <= value["mean"] <= value["high"]


def test_the_protocol_names_everything_a_number_depends_on(drawn_faces: FaceFiles, ranges: DegradationRanges) -> None:
    protocol = json.loads(metrics_json(_evaluate(drawn_faces, seed=9)))["protocol"]
    assert (protocol["degradation"], protocol["seed"], protocol["resolution"]) == ("small", 9, 32)
    assert protocol["degradation_values"]["first"]["downscale_range"] == list(ranges.first.downscale_range)
    assert set(protocol["metrics"]) == {"psnr", "ssim"}
    assert protocol["versions"]["torch"] == torch.__version__.split("+")[0]


def test_what_concerns_the_pairs_alone_is_measured_once_and_a_failure_between_changes_nothing(
    drawn_faces: FaceFiles,
) -> None:
    class ChannelMeans(nn.Module):
        num_seen = 0

        def forward(self, images: Tensor) -> Tensor:
            self.num_seen += len(images)
            return images.float().mean((2, 3))

    measured: list[int] = []

    def measure(images: Tensor, targets: Tensor) -> Tensor:
        measured.append(len(images))
        return psnr(images, targets)

    inception = ChannelMeans()
    evaluator = Evaluator(
        FacePairs(drawn_faces, 32, "small", batch_size=3),
        Metrics((FaceMetric("psnr", "", measure),), (fid_metric(inception),)),
    )
    inception.num_seen = 0  # torchmetrics tries the network once
    with pytest.raises(ValueError, match="must be finite"):
        evaluator.evaluate(lambda x: x / 0)
    found = [evaluator.evaluate(_smooth, num_first=2) for _ in range(3)]
    assert sum(measured) == 7 + 3 * 7
    assert [face.row for face in found[0].first] == found[0].rows[:2]
    fresh = Evaluator(evaluator.pairs, Metrics(evaluator.metrics.per_face, (fid_metric(ChannelMeans()),))).evaluate(
        _smooth
    )
    for other in found:
        assert (other.rows, other.degraded, other.restored, other.difference, other.protocol) == (
            fresh.rows,
            fresh.degraded,
            fresh.restored,
            fresh.difference,
            fresh.protocol,
        )


def test_worst_and_best_faces_are_kept_in_order(drawn_faces: FaceFiles, ranges: DegradationRanges) -> None:
    evaluation = _evaluate(drawn_faces, batch_size=2)
    by_psnr = sorted(evaluation.rows, key=lambda row: row.restored["psnr"])
    assert [face.row for face in evaluation.worst] == by_psnr[:4]
    assert [face.row for face in evaluation.best] == by_psnr[::-1][:4]
    face = evaluation.best[0]
    assert psnr(face.restored[None], face.target[None]).item() == face.row.restored["psnr"]


def test_the_printed_table_shows_means_intervals_and_the_gain(
    drawn_faces: FaceFiles, ranges: DegradationRanges
) -> None:
    evaluation = _evaluate(drawn_faces)
    header, rows = summary_rows(evaluation)
    gain = evaluation.difference["psnr"]
    assert header == ["metric", "degraded", "restored", "difference"]
    assert [row[0] for row in rows] == ["PSNR dB ↑", "SSIM ↑"]
    assert rows[0][3] == f"{gain.mean:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}]"


def test_fid_stands_beside_the_means_without_an_interval(drawn_faces: FaceFiles, ranges: DegradationRanges) -> None:
    class ChannelMeans(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.float().mean((2, 3))

    metrics = Metrics(choose_metrics(["psnr"]).per_face, (fid_metric(ChannelMeans()),))
    batch = PairBatch(["a", "b", "c"], torch.zeros(3, 3, 32, 32).byte(), torch.full((3, 3, 32, 32), 4).byte())
    pairs = FacePairs(drawn_faces, 32, "small", kept=(batch,))
    evaluation = Evaluator(pairs, metrics).evaluate(lambda x: x + 2 / 127.5)
    assert evaluation.degraded["fid"].mean == pytest.approx(3 * 4**2, rel=1e-6)
    assert evaluation.restored["fid"].mean == pytest.approx(3 * 2**2, rel=1e-6)
    assert evaluation.restored["fid"].low is None
    assert "fid" in evaluation.protocol.metrics


def test_restored_images_of_another_size_or_without_value_are_refused(
    drawn_faces: FaceFiles, ranges: DegradationRanges
) -> None:
    evaluator = Evaluator(FacePairs(drawn_faces, 32, "small"), choose_metrics())
    with pytest.raises(ValueError, match="resolution of the model"):
        evaluator.evaluate(lambda x: x[..., :16, :16])
    with pytest.raises(ValueError, match="must be finite"):
        evaluator.evaluate(lambda x: x / 0)


def test_pairs_with_different_names_are_refused_and_named(drawn_faces: FaceFiles, tmp_path: Path) -> None:
    target = next(iter(FacePairs(drawn_faces, 32, "small"))).target
    for name in ("0", "1", "lonely"):
        write_png(tmp_path / "other" / f"{name}.png", target[0].permute(1, 2, 0).numpy())
    with pytest.raises(ValueError, match=r"without target lonely \(1\); without degraded image 2, 3, 4 … \(5\)"):
        next(iter(FacePairs(drawn_faces, 32, open_faces(tmp_path / "other"))))


def test_results_of_faces_with_hostile_names_are_stored_and_no_formulas(drawn_faces: FaceFiles, tmp_path: Path) -> None:
    evaluation = _evaluate(drawn_faces)
    names = ["=1+1", "+1", "-1", "@x", "\udcff.png", "\x1b[2J", 'a,\n"b']
    rows = [row._replace(name=name) for row, name in zip(evaluation.rows, names, strict=True)]
    worst = [face._replace(row=row) for face, row in zip(evaluation.worst, rows[3:], strict=True)]
    protocol = replace(evaluation.protocol, faces="\udcff", model="\x1b[2J")
    write_evaluation(tmp_path, replace(evaluation, rows=rows, worst=worst, protocol=protocol))
    stored = list(csv.DictReader((tmp_path / "per_image.csv").read_text().splitlines(keepends=True)))
    assert [row["name"] for row in stored] == ["'=1+1", "'+1", "'-1", "'@x", "\\udcff.png", "\\x1b[2J", 'a,\n"b']
    assert [float(row["restored_psnr"]) for row in stored] == [row.restored["psnr"] for row in evaluation.rows]
    assert json.loads((tmp_path / "metrics.json").read_text())["protocol"]["faces"] == "\udcff"


def test_one_reduced_target_among_small_ones_is_warned_of(tmp_path: Path) -> None:
    for name, size in (("a", 16), ("b", 32), ("c", 48)):
        write_png(tmp_path / f"{name}.png", np.zeros((size, size, 3), dtype=np.uint8))
    targets = open_faces(tmp_path)
    assert reduction_warning(targets, 32).startswith("warning: targets of 48 x 48 pixels are reduced to 32")
    assert reduction_warning(targets, 48) == ""
