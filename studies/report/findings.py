"""What a report is made of: results, differences, records, and what each variant makes of a few example faces."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from data.ranges import model_to_uint8, uint8_to_model
from evaluation.pairs import PairBatch
from export.static.graph import Cost, count_cost
from inference.restorers import load_restorer
from studies.comparison import Comparison, Variant
from studies.records import StageRecord, stage_records
from studies.results import Difference, Results, find_differences, first_of, metrics_of, read_results

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
    faces = settings.pictures.open(comparison.faces)
    return {
        name: next(
            iter(replace(settings.pairs_of(faces, resolution, degradation), batch_size=number, max_faces=number))
        )
        for name, degradation in settings.preset_names().items()
    }


def restore_examples(variant: Variant, pairs: Mapping[str, PairBatch]) -> Examples:
    """Restores the example faces with the first member of a variant; FileNotFoundError or ValueError where its file is
    gone, is damaged or has another resolution."""
    restorer = load_restorer(variant.members[0].checkpoint)
    restored = {name: model_to_uint8(restorer(uint8_to_model(pair.degraded))) for name, pair in pairs.items()}
    cost = None if restorer.architecture is None else count_cost(restorer.architecture)
    return Examples(cost, restored)


Records = dict[str, dict[str, dict[str, StageRecord]]]
"""Name of the variant, name of the member, stage."""


@dataclass(frozen=True)
class Findings:
    """A comparison and what came out."""

    comparison: Comparison
    results: Results
    metrics: list[str]
    differences: list[Difference]
    records: Records
    pairs: dict[str, PairBatch]
    """Example faces by the short name of the degradation."""
    examples: dict[str, Examples]
    """What each variant makes of them."""

    @property
    def costs(self) -> dict[str, Cost | None]:
        """What each variant costs, by its name; None where that is not known."""
        return {name: examples.cost for name, examples in self.examples.items()}


def gather(comparison: Comparison) -> Findings:
    """Reads results and records, computes differences and restores the example faces; FileNotFoundError or ValueError
    where one of them is missing or damaged, or results were not measured on identical pairs."""
    results = read_results(comparison)
    variants = comparison.measured()
    records = {v.name: {member.name: stage_records(member) for member in v.members} for v in variants}
    pairs = example_pairs(comparison, first_of(next(iter(results.values()))).protocol["resolution"])
    return Findings(
        comparison,
        results,
        metrics_of(results),
        find_differences(results, comparison.reference),
        records,
        pairs,
        {variant.name: restore_examples(variant, pairs) for variant in variants},
    )
