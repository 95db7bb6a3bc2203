"""Tables of a run fit the checkpoint that it continues from."""

from pathlib import Path

import pytest

from evaluation.reports.charts import columns_of
from train.reporting.tracking import CsvLog, read_table


def test_rows_are_appended_with_six_digits_under_their_columns(tmp_path: Path) -> None:
    log = CsvLog(tmp_path / "train.csv", 0)
    log.append(8, {"loss": 1 / 3, "score": -2.0})
    log.append(16, {"score": 1e-9, "loss": 123456.789})
    assert (tmp_path / "train.csv").read_text().split() == [
        "images_seen,loss,score",
        "8,0.333333,-2",
        "16,123457,1e-09",
    ]


def test_rows_beyond_the_checkpoint_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    first = CsvLog(path, 0)
    for images_seen in (8, 16, 24, 32):
        first.append(images_seen, {"loss": float(images_seen)})
    continued = CsvLog(path, 16)
    assert path.read_text().split() == ["images_seen,loss", "8,8", "16,16"]
    continued.append(24, {"loss": 0.5})
    assert path.read_text().split() == ["images_seen,loss", "8,8", "16,16", "24,0.5"]


def test_a_new_run_in_an_old_folder_begins_with_an_empty_table(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    CsvLog(path, 0).append(8, {"loss": 1.0})
    CsvLog(path, 0)
    assert path.read_text().split() == ["images_seen,loss"]


def test_columns_that_join_later_are_empty_in_earlier_rows_and_stay_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "validation.csv"
    log = CsvLog(path, 0)
    log.append(8, {"psnr": 20.5})
    log.append(16, {"psnr": 21.0, "lpips": 0.25})
    log.append(24, {"lpips": 0.125})
    expected = ["images_seen,psnr,lpips", "8,20.5,", "16,21,0.25", "24,,0.125"]
    assert path.read_text().split() == expected
    CsvLog(path, 24).append(32, {"psnr": 22.0, "lpips": 0.5})
    assert path.read_text().split() == [*expected, "32,22,0.5"]


def test_a_table_is_read_as_numbers_by_images_seen_without_empty_cells(tmp_path: Path) -> None:
    log = CsvLog(tmp_path / "train.csv", 0)
    log.append(8, {"loss": 0.5})
    log.append(16, {"loss": -2.0, "penalty": 1e-9})
    assert read_table(tmp_path / "train.csv") == {8: {"loss": 0.5}, 16: {"loss": -2.0, "penalty": 1e-9}}
    assert read_table(tmp_path / "validation.csv") == {}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"images_seen,loss\n8,0.5\neight,0.5\n", "in line 3 (invalid literal for int"),
        (b"images_seen,loss\n8,half\n", "in line 2 (could not convert string to float: 'half')"),
        (b"images_seen,loss\n8,0.5,0.25\n", "in line 2 ("),
        (b"loss\n0.5\n", "in line 1 (there is no column images_seen)"),
        (b"images_seen,loss\n8,0.5\n\0\0\0\0\n", "in line 3 ("),
        (b"", "(there is no column images_seen)"),
        (b"\0\0\0\n", "(there is no column images_seen)"),
        (b"\xff\xfe\n", "('utf-8' codec can't decode byte 0xff"),
    ],
)
def test_a_damaged_table_is_named_with_its_line_whoever_reads_it(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "train.csv"
    path.write_bytes(content)
    for read in (lambda: read_table(path), lambda: CsvLog(path, 8), lambda: columns_of(path, ["loss"])):
        with pytest.raises(ValueError, match="damaged") as raised:
            read()  # type: ignore[no-untyped-call]
        assert str(raised.value).startswith(f"{path} is damaged")
        assert reason in str(raised.value) and "\n" not in str(raised.value)
    assert path.read_bytes() == content


def test_a_row_that_a_full_disk_cut_off_counts_as_not_written(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text("images_seen,loss\n8,0.5\n1")
    assert read_table(path) == {8: {"loss": 0.5}}
    CsvLog(path, 8).append(16, {"loss": 0.25})
    assert path.read_text().split() == ["images_seen,loss", "8,0.5", "16,0.25"]
