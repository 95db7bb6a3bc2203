"""Adaptive augmentation: what each operation does to pixels, how its strength follows, what depends on what."""

import math

import pytest
import torch
from torch import Tensor

from train.updates.augmentation import NUM_OPERATIONS, AdaptiveAugmentation, Augmentation, augment, draw_augmentations

MIRROR, QUARTER, SHIFT, SCALE, TURN, BRIGHTNESS, CONTRAST, SATURATION = range(NUM_OPERATIONS)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 0.5


def drawn(operation: int | None, values: dict[int, float]) -> Tensor:
    """Numbers by which one operation alone is applied at probability 0.5; values by their place behind the gates."""
    row = torch.full((1, 17), 0.9)
    row[:, NUM_OPERATIONS:] = 0.0
    if operation is not None:
        row[0, operation] = 0.1
    for place, value in values.items():
        row[0, NUM_OPERATIONS + place] = value
    return row


def test_each_operation_does_to_pixels_what_it_says(images: Tensor) -> None:
    half = torch.tensor(0.5)
    expected = {
        (None, ()): images,
        (MIRROR, ((0, 0.2),)): images.flip(3),
        (MIRROR, ((0, 0.7),)): images,  # mirrored or not, by chance
        (QUARTER, ((1, 0.3),)): images.rot90(1, (2, 3)),
        (QUARTER, ((1, 0.6),)): images.rot90(2, (2, 3)),
        (TURN, ((4, 0.5),)): images,
        (TURN, ((4, 0.75),)): images.rot90(1, (2, 3)),
        (BRIGHTNESS, ((6, 1.0),)): images + 0.2,
        (CONTRAST, ((7, -2.0),)): images / 2,
        (SATURATION, ((8, 1.0),)): images.mean(1, keepdim=True) + 2 * (images - images.mean(1, keepdim=True)),
    }
    for (operation, places), result in expected.items():
        torch.testing.assert_close(augment(images, drawn(operation, dict(places)), half), result, rtol=0, atol=2e-5)
    shifted = augment(images, drawn(SHIFT, {2: 1.0, 3: 0.5}), half)  # by an eighth of the side to one side
    torch.testing.assert_close(shifted[..., :-2], images[..., 2:], rtol=0, atol=2e-5)
    enlarged = augment(images, drawn(SCALE, {5: 5.0}), half)  # twice as large: pixels of the middle stand apart
    assert enlarged.var() < images.var() and torch.isfinite(enlarged).all()


def test_probability_0_changes_nothing_and_1_changes_every_image(images: Tensor) -> None:
    batch = images.expand(32, -1, -1, -1)
    numbers = draw_augmentations(3, "test", range(32))
    torch.testing.assert_close(augment(batch, numbers, torch.tensor(0.0)), batch, rtol=0, atol=2e-5)
    assert ((augment(batch, numbers, torch.tensor(1.0)) - batch).abs().amax((1, 2, 3)) > 0.05).all()


def test_numbers_depend_on_seed_purpose_and_image_index_alone() -> None:
    numbers = draw_augmentations(3, "real", [5, 6, 7])
    assert torch.equal(draw_augmentations(3, "real", [7, 5]), numbers[[2, 0]])
    for other in (draw_augmentations(4, "real", [5]), draw_augmentations(3, "generated", [5]), numbers[1:2]):
        assert (other != numbers[:1]).all()


def test_gradients_are_those_of_finite_differences(images: Tensor) -> None:
    numbers = draw_augmentations(0, "test", range(2))
    given = images[:, :, :6, :6].expand(2, -1, -1, -1).clone().requires_grad_()
    direction = torch.randn(given.shape, generator=torch.Generator().manual_seed(1))
    weights = torch.randn(given.shape, generator=torch.Generator().manual_seed(2))
    (augment(given, numbers, torch.tensor(1.0)) * weights).sum().backward()
    with torch.no_grad():  # linear in the images, so that any step will do
        moved = augment(given + direction, numbers, torch.tensor(1.0)) - augment(given, numbers, torch.tensor(1.0))
    assert given.grad is not None
    torch.testing.assert_close((given.grad * direction).sum(), (moved * weights).sum(), rtol=1e-4, atol=1e-4)


def test_the_strength_follows_the_mean_sign_of_an_interval_and_stays_between_0_and_1() -> None:
    augmentation = AdaptiveAugmentation(Augmentation(target=0.6, rise_images=160, interval=2))
    strengths = []
    for iteration, sign in enumerate([1.0, 0.4, 1.0, 0.0, 1.0, math.nan, 0.0, 0.0, 0.0, 0.0]):
        augmentation.follow(torch.tensor(sign), iteration, num_images=8)
        strengths.append(round(float(augmentation.probability), 6))
    # 0.7 is above the target, 0.5 is not, 1 is (NaN does not count), 0 is not.
    assert strengths == [0, 0.1, 0.1, 0, 0, 0.1, 0.1, 0, 0, 0]


@pytest.mark.parametrize("wrong", [{"target": 1.0}, {"target": -0.1}, {"rise_images": 0}, {"interval": 0}])
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="augmentation: target must lie in"):
        Augmentation(**wrong)  # type: ignore[arg-type]
