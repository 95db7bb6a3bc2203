"""Brush strokes and boxes that are painted over a face, for inpainting."""

import math

import numpy as np
import torch
from torch import Tensor

from data.degradation.parameters import MaskShapes, Stroke
from data.degradation.presets import REFERENCE_RESOLUTION, MaskRanges

LARGEST_TURN = 2 * math.pi / 5
"""Of a stroke between two segments, to one side and then to the other, as of a hand that rubs something out."""


def sample_mask(ranges: MaskRanges, random: np.random.Generator, resolution: int) -> MaskShapes | None:
    """Draws what is painted over in one image, with lengths scaled to R pixels; None for an image that is left
    whole."""
    if random.random() >= ranges.probability:
        return None
    num_strokes = int(random.integers(*ranges.num_strokes_range, endpoint=True))
    num_boxes = int(random.integers(*ranges.num_boxes_range, endpoint=True))
    strokes = tuple(_sample_stroke(ranges, random, resolution) for _ in range(num_strokes))
    boxes = tuple(_sample_box(ranges, random, resolution) for _ in range(num_boxes))
    return MaskShapes(strokes, boxes, ranges.fill)


def _sample_stroke(ranges: MaskRanges, random: np.random.Generator, resolution: int) -> Stroke:
    """A walk from a point anywhere; points that would leave the image stay at its border."""
    scale = resolution / REFERENCE_RESOLUTION
    num_segments = int(random.integers(*ranges.num_segments_range, endpoint=True))
    width = scale * random.uniform(*ranges.stroke_width_range)
    x, y = random.uniform(0, resolution - 1, 2).tolist()
    direction, side = random.uniform(-math.pi, math.pi), 1.0
    points = [(x, y)]
    for _ in range(num_segments):
        direction += side * random.uniform(0, LARGEST_TURN)
        side = -side
        length = scale * random.uniform(*ranges.segment_length_range)
        x = min(max(x + length * math.cos(direction), 0.0), resolution - 1.0)
        y = min(max(y + length * math.sin(direction), 0.0), resolution - 1.0)
        points.append((x, y))
    return Stroke(width, tuple(points))


def _sample_box(ranges: MaskRanges, random: np.random.Generator, resolution: int) -> tuple[int, int, int, int]:
    """A box anywhere within the image."""
    scale = resolution / REFERENCE_RESOLUTION
    width, height = (min(max(1, round(scale * random.uniform(*ranges.box_side_range))), resolution) for _ in range(2))
    left, top = (int(random.integers(0, resolution - side, endpoint=True)) for side in (width, height))
    return left, top, left + width, top + height


def draw_mask(shapes: MaskShapes, resolution: int, device: torch.device) -> Tensor:
    """Draws what is painted over, bool [R, R]: whether the middle of a pixel lies within a box, or within half a
    brush's width of a stroke."""
    axis = torch.arange(resolution, device=device, dtype=torch.float32)
    mask = torch.zeros(resolution, resolution, dtype=torch.bool, device=device)
    for left, top, right, bottom in shapes.boxes:
        mask[top:bottom, left:right] = True
    for stroke in shapes.strokes:
        for (x0, y0), (x1, y1) in zip(stroke.points[:-1], stroke.points[1:], strict=True):
            columns, rows = axis[None, :] - x0, axis[:, None] - y0
            squared_length = (x1 - x0) ** 2 + (y1 - y0) ** 2
            # How far along the segment its nearest point lies.
            along = ((columns * (x1 - x0) + rows * (y1 - y0)) / max(squared_length, 1e-12)).clamp(0, 1)
            distance = torch.hypot(columns - along * (x1 - x0), rows - along * (y1 - y0))  # [R, R]
            mask |= distance <= stroke.width / 2
    return mask
