from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation.reports.pictures import comparison_rows, picture_grid, write_png


def test_a_grid_holds_every_image_unchanged_on_white() -> None:
    images = torch.randint(0, 255, (5, 3, 10, 12), dtype=torch.uint8)
    grid = picture_grid(images, num_columns=3)
    assert grid.shape == (2 * 14 + 4, 3 * 16 + 4, 3)
    for index in range(5):
        top, left = 4 + index // 3 * 14, 4 + index % 3 * 16
        assert np.array_equal(grid[top : top + 10, left : left + 12], images[index].permute(1, 2, 0).numpy())
    assert (grid[18:, 36:] == 255).all()


def test_small_faces_are_enlarged_to_whole_squares_of_one_colour() -> None:
    columns = [torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8) for _ in range(3)]
    rows = comparison_rows(columns, captions=("first", "second"))
    expected = columns[1][0].permute(1, 2, 0).numpy().repeat(2, axis=0).repeat(2, axis=1)
    left = 4 + 128 + 4
    assert any(np.array_equal(rows[top : top + 128, left : left + 128], expected) for top in range(rows.shape[0] - 128))


def test_captions_leave_their_ink_and_long_ones_are_cut_to_the_width() -> None:
    columns = [torch.full((1, 3, 128, 128), 255, dtype=torch.uint8)] * 3
    plain = comparison_rows(columns)
    captioned = comparison_rows(columns, captions=["x" * 500])
    assert captioned.shape[1] == plain.shape[1]
    assert (captioned[len(plain) :] < 128).any()


def test_a_written_picture_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    path = write_png(tmp_path / "new" / "x.png", picture)
    assert np.array_equal(np.asarray(Image.open(path)), picture)
    assert [file.name for file in path.parent.iterdir()] == ["x.png"]


def test_pictures_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one column"):
        picture_grid(torch.zeros(0, 3, 4, 4, dtype=torch.uint8), 2)
    with pytest.raises(ValueError, match="one caption per face"):
        comparison_rows([torch.zeros(2, 3, 4, 4, dtype=torch.uint8)], ("x",), ("only one",))
