"""A group photograph of people who do not exist: faces that the shipped prior draws, at known places."""

from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from data.ranges import model_to_uint8
from inference.drawing import SHIPPED_PRIOR, sample
from models import load_prior

PLACES = ((90, 110, 64, 0), (260, 130, 128, 12), (470, 120, 200, -8), (120, 320, 90, -15), (330, 330, 64, 0))
"""Centre x and y, side in pixels and degrees of each face."""


class GroupPhoto(NamedTuple):
    """A photograph and where its faces are."""

    pixels: np.ndarray
    places: tuple[tuple[int, int, int, int], ...]


def draw_group_photo() -> GroupPhoto:
    """640 x 440 pixels, five faces of 64 to 200 pixels, some leaning."""
    prior = load_prior(SHIPPED_PRIOR)
    drawn = model_to_uint8(sample(prior, 0, range(len(PLACES)), "rendered faces", truncation=0.7))
    ramp = np.linspace(90, 170, 640)[None, :, None] + np.linspace(-20, 20, 440)[:, None, None]
    photo = Image.fromarray((ramp * (0.9, 1.0, 1.1)).clip(0, 255).astype(np.uint8))
    for (x, y, side, degrees), face in zip(PLACES, drawn.permute(0, 2, 3, 1).numpy(), strict=True):
        large = Image.fromarray(face).resize((side, side), Image.Resampling.BICUBIC)
        mask = Image.new("L", (side, side), 0)
        ImageDraw.Draw(mask).ellipse((2, 2, side - 2, side - 2), fill=255)
        mask = mask.filter(ImageFilter.GaussianBlur(2))
        turned = [one.rotate(degrees, Image.Resampling.BICUBIC, expand=True) for one in (large, mask)]
        photo.paste(turned[0], (x - turned[0].width // 2, y - turned[0].height // 2), turned[1])
    return GroupPhoto(np.array(photo), PLACES)


@pytest.fixture(scope="session")
def group_photo() -> GroupPhoto:
    """See `draw_group_photo`."""
    return draw_group_photo()
