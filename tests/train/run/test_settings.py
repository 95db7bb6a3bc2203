"""Progress is counted in images: rhythms that do not divide by the batch, and limits of the settings."""

from pathlib import Path

import pytest

from train.run.settings import FaceSettings, RunSettings, is_passed


@pytest.mark.parametrize("batch_size", [1, 3, 4, 7, 16])
@pytest.mark.parametrize("every_images", [1, 4, 10, 13, 100])
def test_a_rhythm_is_passed_when_a_multiple_lies_within_the_batch(batch_size: int, every_images: int) -> None:
    for images_seen in range(batch_size, 400, batch_size):
        batch = range(images_seen - batch_size + 1, images_seen + 1)
        assert is_passed(images_seen, batch_size, every_images) == any(k % every_images == 0 for k in batch)


def test_multiples_that_no_batch_ends_at_are_reported_by_the_batch_that_crosses_them() -> None:
    assert [k for k in range(6, 61, 6) if is_passed(k, 6, 10)] == [12, 24, 30, 42, 54, 60]


def test_a_resumed_run_passes_the_same_multiples_as_an_uninterrupted_one() -> None:
    whole = [k for k in range(6, 61, 6) if is_passed(k, 6, 10)]
    resumed = [k for start, end in ((0, 24), (24, 60)) for k in range(start + 6, end + 1, 6) if is_passed(k, 6, 10)]
    assert resumed == whole


def test_all_settings_below_1_are_named_together() -> None:
    with pytest.raises(ValueError) as error:
        RunSettings(total_images=0, keep_checkpoints=-2)
    problems = ["total_images must be at least 1, got 0", "keep_checkpoints must be at least 1, got -2"]
    assert str(error.value) == "run: " + "; ".join(problems)


@pytest.mark.parametrize(
    "name", ["log_every_images", "validate_every_images", "checkpoint_every_images", "max_skipped_updates"]
)
def test_every_rhythm_must_be_at_least_1(name: str) -> None:
    with pytest.raises(ValueError, match=f"run: {name} must be at least 1, got 0"):
        RunSettings(**{name: 0})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"num_workers": 100_000}, "num_workers must be from 0 to 256, got 100000"),
        ({"num_workers": -1, "cache_mebibytes": -5},
         "num_workers must be from 0 to 256, got -1; cache_mebibytes must be at least 0, got -5"),
    ],
)  # fmt: skip
def test_a_slip_of_the_keyboard_starts_no_readers(settings: dict[str, int], problem: str) -> None:
    with pytest.raises(ValueError, match=f"^data: {problem}$"):
        FaceSettings(Path("faces"), **settings)  # type: ignore[arg-type]
    FaceSettings(Path("faces"), num_workers=256, cache_mebibytes=0)


def test_seed_0_is_a_seed() -> None:
    assert RunSettings(seed=0).seed == 0
