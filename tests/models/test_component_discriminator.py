"""Eyes and mouth are cut at constant places, symmetrically, and their discriminators see nothing else."""

import pytest
import torch

from models import Architecture
from models.discriminator import LEFT_EYE, MOUTH, RIGHT_EYE, ComponentDiscriminators, crop_components


@pytest.mark.parametrize("resolution", [32, 64])
def test_crops_are_the_pixels_of_their_regions(resolution: int) -> None:
    image = torch.rand(2, 3, resolution, resolution)
    eyes, mouth = crop_components(image)
    unit = resolution // 32
    assert eyes.shape == (4, 3, 8 * unit, 8 * unit) and mouth.shape == (2, 3, 12 * unit, 12 * unit)
    assert torch.equal(eyes[::2], image[:, :, 11 * unit : 19 * unit, 8 * unit : 16 * unit])
    assert torch.equal(eyes[1::2].flip(3), image[:, :, 11 * unit : 19 * unit, 16 * unit : 24 * unit])
    assert torch.equal(mouth, image[:, :, 17 * unit : 29 * unit, 10 * unit : 22 * unit])


def test_in_a_mirrored_face_the_eyes_change_places_and_the_mouth_is_mirrored() -> None:
    image = torch.rand(2, 3, 64, 64)
    (eyes, mouth), (mirrored_eyes, mirrored_mouth) = crop_components(image), crop_components(image.flip(3))
    assert torch.equal(mirrored_eyes, eyes.unflatten(0, (2, 2)).flip(1).flatten(0, 1))
    assert torch.equal(mirrored_mouth, mouth.flip(3))


def test_the_regions_hold_the_landmarks_of_the_alignment() -> None:
    # Mean places of FFHQ's alignment at 512 pixels, as facexlib's template has them.
    places = {RIGHT_EYE: [(193, 240)], LEFT_EYE: [(319, 240)], MOUTH: [(201, 371), (313, 371)]}
    for (left, top, right, bottom), points in places.items():
        for x, y in points:
            assert left + 2 < x / 16 < right - 2 and top + 2 < y / 16 < bottom - 2


def test_logits_depend_on_the_regions_and_on_nothing_else(tiny: Architecture) -> None:
    networks = ComponentDiscriminators(tiny)
    image = torch.rand(2, 3, 32, 32).requires_grad_()
    eyes, mouth = networks(image)
    assert eyes.logits.shape == (4, 2, 2) and mouth.logits.shape == (2, 3, 3)
    (eyes.logits.sum() + mouth.logits.sum()).backward()
    assert image.grad is not None
    inside = torch.zeros(32, 32, dtype=torch.bool)
    for left, top, right, bottom in (RIGHT_EYE, LEFT_EYE, MOUTH):
        inside[top:bottom, left:right] = True
    assert torch.equal((image.grad != 0).any(1), inside.expand(2, -1, -1))


def test_each_image_is_judged_for_itself(tiny: Architecture) -> None:
    networks, images = ComponentDiscriminators(tiny), torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        together, alone = networks(images), networks(images[1:2])
    torch.testing.assert_close(together[0].logits[2:4], alone[0].logits, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(together[1].logits[1:2], alone[1].logits, rtol=1e-5, atol=1e-6)


@pytest.fixture
def tiny() -> Architecture:
    """32 pixels, 32 channels."""
    return Architecture(32, 1, 0.0625, style_dim=32, num_mapping_layers=2)
