"""The same faces restored by every variant, side by side, and what one restoration costs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from data.faces.files import open_faces
from data.ranges import model_to_uint8, uint8_to_model
from evaluation.pairs import PairBatch
from evaluation.reports.pictures import Picture, comparison_rows
from export.static.cost import Cost, count_cost
from inference.restorers import load_restorer
from studies.comparison import Comparison, Variant

NUM_EXAMPLES = 6
"""Faces in a picture: the first ones by name, so that nobody chose them."""


@dataclass(frozen=True)
class Examples:
    """What the first member of a variant makes of the example faces."""

    cost: Cost | None
    """None where the file does not tell its architecture."""
    restored: dict[str, Tensor]
    """Short name of the degradation to uint8 [N, 3, R, R]."""


def example_pairs(comparison: Comparison, resolution: int) -> dict[str, PairBatch]:
    """The first faces by name, degraded exactly as for the measurement."""
    settings = comparison.measurement
    number = min(NUM_EXAMPLES, settings.max_faces or NUM_EXAMPLES)
    faces = open_faces(comparison.faces)
    return {
        name: next(
            iter(replace(settings.pairs_of(faces, resolution, degradation), batch_size=number, max_faces=number))
        )
        for name, degradation in settings.preset_names().items()
    }


def restore_examples(variant: Variant, pairs: Mapping[str, PairBatch]) -> Examples:
    """Restores the example faces with the first member of a variant.

    Raises:
        FileNotFoundError: Its file is gone.
        ValueError: Its file is damaged or has another resolution.
    """
    restorer = load_restorer(variant.members[0].checkpoint)
    restored = {name: model_to_uint8(restorer(uint8_to_model(pair.degraded))) for name, pair in pairs.items()}
    cost = None if restorer.architecture is None else count_cost(restorer.architecture)
    return Examples(cost, restored)


def examples_picture(pairs: PairBatch, restored: Mapping[str, Tensor], with_photographs: bool) -> Picture:
    """One row per face: degraded, every variant, target.

    Args:
        pairs: The example faces under one degradation.
        restored: Name of the variant to uint8 [N, 3, R, R].
        with_photographs: Whether the degraded and the target faces may be shown.

    Returns:
        The picture.
    """
    columns, headings = list(restored.values()), list(restored)
    if with_photographs:
        columns, headings = [pairs.degraded, *columns, pairs.target], ["degraded", *headings, "target"]
    return comparison_rows(columns, headings)
