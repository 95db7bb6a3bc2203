"""Everything a report is made of, read, computed and drawn once."""

from dataclasses import dataclass

from evaluation.pairs import PairBatch
from export.static.cost import Cost
from studies.comparison import Comparison
from studies.differences import Difference, find_differences
from studies.records import StageRecord, stage_records
from studies.report.example_faces import Examples, example_pairs, restore_examples
from studies.results import Results, first_measured, metrics_of, read_results

Records = dict[str, dict[str, dict[str, StageRecord]]]
"""Name of the variant, name of the member, stage."""


@dataclass(frozen=True)
class Findings:
    """A comparison and what came out."""

    comparison: Comparison
    results: Results
    metrics: list[str]
    """In the order of the columns."""
    differences: list[Difference]
    records: Records
    pairs: dict[str, PairBatch]
    """Example faces by the short name of the degradation."""
    examples: dict[str, Examples]
    """What each variant makes of them."""

    @property
    def costs(self) -> dict[str, Cost | None]:
        """By the name of the variant."""
        return {name: one.cost for name, one in self.examples.items()}


def gather(comparison: Comparison) -> Findings:
    """Reads results and records, computes differences and restores the example faces.

    Raises:
        FileNotFoundError: A result, a run or a checkpoint is missing.
        ValueError: One of them is damaged, or results were not measured on identical pairs.
    """
    results = read_results(comparison)
    variants = comparison.measured()
    records = {v.name: {member.name: stage_records(member) for member in v.members} for v in variants}
    pairs = example_pairs(comparison, first_measured(results).protocol["resolution"])
    return Findings(
        comparison,
        results,
        metrics_of(results),
        find_differences(results, comparison.reference),
        records,
        pairs,
        {variant.name: restore_examples(variant, pairs) for variant in variants},
    )
