from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from data.dataset import FaceBatch, FaceImages, RunBatches, RunImages, collate_faces
from data.faces.files import FaceFiles, open_faces
from data.randomness import is_flipped, photograph_of


@pytest.fixture
def faces(tmp_path: Path) -> FaceFiles:
    """Eleven 8-pixel images; the red channel is the number of the photograph, green rises from left to right."""
    for number in range(11):
        pixels = np.zeros((8, 8, 3), dtype=np.uint8)
        pixels[..., 0] = number
        pixels[..., 1] = np.arange(8) * 10
        Image.fromarray(pixels).save(tmp_path / f"{number:02d}.png")
    return open_faces(tmp_path)


def _save(folder: Path, pixels: np.ndarray) -> FaceFiles:
    Image.fromarray(pixels).save(folder / "x.png")
    return open_faces(folder)


def test_an_image_of_the_right_size_is_passed_on_unchanged(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = FaceImages(_save(tmp_path, pixels), 8)[0]
    assert image.dtype == torch.uint8
    assert np.array_equal(image.permute(1, 2, 0).numpy(), pixels)


@pytest.mark.parametrize("transpose", [False, True])
def test_the_central_square_is_cropped_from_an_oblong_image(tmp_path: Path, transpose: bool) -> None:
    pixels = np.zeros((4, 9, 3), dtype=np.uint8)
    pixels[:, :, 0] = np.arange(9)
    expected = pixels[:, 2:6]
    if transpose:
        pixels, expected = pixels.transpose(1, 0, 2), expected.transpose(1, 0, 2)
    image = FaceImages(_save(tmp_path, np.ascontiguousarray(pixels)), 4)[0]
    assert np.array_equal(image.permute(1, 2, 0).numpy(), expected)


def test_shrinking_a_fine_checkerboard_gives_grey_because_it_is_antialiased(tmp_path: Path) -> None:
    board = np.indices((64, 64)).sum(0) % 2 * 255
    image = FaceImages(_save(tmp_path, np.repeat(board[..., None], 3, 2).astype(np.uint8)), 16)[0]
    assert (image.int() - 127).abs().max() <= 2


def test_resizing_keeps_a_flat_colour_exactly(tmp_path: Path) -> None:
    faces = _save(tmp_path, np.full((37, 37, 3), (10, 128, 250), dtype=np.uint8))
    for resolution in (8, 64):
        image = FaceImages(faces, resolution)[0]
        assert torch.equal(image, torch.tensor([10, 128, 250], dtype=torch.uint8)[:, None, None].expand_as(image))


def test_the_cache_returns_equal_images_that_the_caller_may_change(faces: FaceFiles) -> None:
    images = FaceImages(faces, 8, cache_bytes=10**6)
    first = images[3]
    first.zero_()
    second = images[3]
    assert second[0].eq(3).all()
    second.zero_()
    assert torch.equal(images[3], FaceImages(faces, 8)[3])


def test_the_cache_saves_reading_and_stays_within_its_bytes(faces: FaceFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    read: Callable[[int], Image.Image] = faces.read
    monkeypatch.setattr(faces, "read", lambda index: (reads.append(index), read(index))[1])
    images = FaceImages(faces, 8, cache_bytes=2 * 3 * 8 * 8 + 100)
    for index in (0, 1, 2, 0, 1, 2):
        assert images[index][0].eq(index).all()
    assert reads == [0, 1, 2, 2]


def test_the_kth_image_of_a_run_is_the_photograph_and_the_flip_of_the_run_order(faces: FaceFiles) -> None:
    run = RunImages(faces, 8, seed=5, flip_probability=0.5)
    for index in range(33):
        image, image_index, *_ = run[index]
        assert image_index == index
        assert image[0].eq(photograph_of(5, index, 11)).all()
        row = image[1, 0].tolist()
        assert row == sorted(row, reverse=is_flipped(5, index, 0.5))


def test_a_flip_probability_of_0_never_mirrors_and_of_1_always(faces: FaceFiles) -> None:
    plain, mirrored = RunImages(faces, 8, 0, 0.0), RunImages(faces, 8, 0, 1.0)
    for index in range(11):
        assert torch.equal(plain[index][0], mirrored[index][0].flip(-1))


def test_what_is_asked_of_an_image_is_asked_of_it_as_it_is_trained_on_and_stays_beside_it(faces: FaceFiles) -> None:
    run = RunImages(faces, 8, seed=5, locate=lambda image: image[0, 0].float())
    batch = collate_faces([run[k] for k in range(8)])
    assert batch.places is not None and torch.equal(batch.places, batch.target[:, 0, 0].float())
    for start in (0, 4):
        part = batch.part(start, 4)
        assert part.places is not None and torch.equal(part.places, batch.places[start : start + 4])
    without = collate_faces([RunImages(faces, 8, seed=5)[k] for k in range(8)])
    assert without.places is None and without.part(0, 4).places is None


def test_the_ranks_share_every_batch_in_contiguous_equal_parts() -> None:
    batches = [list(RunBatches(0, 24, 8, rank, 4)) for rank in range(4)]
    assert batches[1] == [[2, 3], [10, 11], [18, 19]]
    for batch in range(3):
        together = [index for rank in range(4) for index in batches[rank][batch]]
        assert together == list(range(8 * batch, 8 * batch + 8))


def test_a_resumed_run_goes_on_with_exactly_the_batches_that_were_left() -> None:
    whole = list(RunBatches(0, 100, 8, 1, 2))
    resumed = RunBatches(40, 100, 8, 1, 2)
    assert list(resumed) == whole[5:]
    assert len(resumed) == 7
    assert list(resumed) == whole[5:]  # a second iteration starts at the same place


def test_a_batch_that_would_not_be_full_is_left_out_and_a_finished_run_has_none() -> None:
    assert list(RunBatches(0, 11, 4)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    finished = RunBatches(12, 11, 4)
    assert len(finished) == 0 and list(finished) == []


def test_numbers_that_do_not_fit_together_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="divisible by the number of processes, got 10 images for 4 processes"):
        RunBatches(0, 100, 10, 0, 4)
    with pytest.raises(ValueError, match="start after whole batches, got 6 of 100 images with batch size 4"):
        RunBatches(6, 100, 4)
    with pytest.raises(ValueError, match=r"rank must lie in \[0, 2\), got 2"):
        RunBatches(0, 100, 4, 2, 2)


def test_sizes_and_probabilities_out_of_range_are_refused(faces: FaceFiles) -> None:
    with pytest.raises(ValueError, match="got 0 and 0"):
        FaceImages(faces, 0)
    with pytest.raises(ValueError, match=r"flip_probability must lie in \[0, 1\], got 1.5"):
        RunImages(faces, 8, 0, 1.5)


def _load(faces: FaceFiles, num_ranks: int, num_workers: int, start_method: str | None = None) -> list[FaceBatch]:
    """All batches of a run of 16 images, those of one step side by side from rank 0 on."""
    run = RunImages(faces, 8, seed=1)
    loaders = [
        DataLoader(
            run,
            batch_sampler=RunBatches(0, 16, 4, rank, num_ranks),
            collate_fn=collate_faces,
            num_workers=num_workers,
            multiprocessing_context=start_method,
        )
        for rank in range(num_ranks)
    ]
    steps = zip(*loaders, strict=True)
    return [
        FaceBatch(torch.cat([part.target for part in step]), [index for part in step for index in part.image_indices])
        for step in steps
    ]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_batches_do_not_depend_on_the_number_of_processes_and_workers(faces: FaceFiles) -> None:
    reference = _load(faces, 1, 0)
    assert [batch.image_indices for batch in reference] == [list(range(i, i + 4)) for i in range(0, 16, 4)]
    for num_ranks, num_workers, start_method in ((1, 2, "fork"), (2, 0, None), (1, 1, "spawn")):
        for expected, batch in zip(reference, _load(faces, num_ranks, num_workers, start_method), strict=True):
            assert torch.equal(expected.target, batch.target)
            assert expected.image_indices == batch.image_indices


def test_a_batch_keeps_python_indices_when_it_is_moved_between_devices(faces: FaceFiles) -> None:
    from lightning_utilities.core.apply_func import apply_to_collection

    run = RunImages(faces, 8, seed=1)
    batch = collate_faces([run[3], run[7]])
    assert torch.equal(batch.target, torch.stack([run[3][0], run[7][0]]))
    moved = apply_to_collection(batch, torch.Tensor, lambda tensor: tensor.to("meta"))
    assert isinstance(moved, FaceBatch)
    assert moved.target.device.type == "meta"
    assert moved.image_indices == [3, 7] and all(type(index) is int for index in moved.image_indices)


def test_real_photographs_are_shrunk_to_the_mean_of_their_blocks(photographs: Path) -> None:
    faces = open_faces(photographs)
    images = FaceImages(faces, 64)
    for index in range(5):
        full = np.asarray(faces.read(index), dtype=np.float64)
        blocks = full.reshape(64, 2, 64, 2, 3).mean((1, 3))
        difference = images[index].permute(1, 2, 0).numpy() - blocks
        assert np.abs(difference).mean() < 3
        assert abs(difference.mean()) < 0.1  # Lanczos sharpens, but neither shifts nor brightens
