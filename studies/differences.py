"""Differences from the reference, with their intervals and in words."""

from dataclasses import dataclass

from evaluation.metrics.choice import METRIC_FORMS
from evaluation.statistics import TrainingDifference, holm_adjusted, training_difference
from studies.results import Results, metrics_of, per_face

LEVEL = 0.05
"""Probability of a wrong claim."""


@dataclass(frozen=True)
class Difference:
    """A variant against the reference under one degradation, in one metric."""

    variant: str
    reference: str
    degradation: str
    metric: str
    num_seeds: tuple[int, int]
    """Members of the variant and of the reference."""
    found: TrainingDifference
    adjusted_p_value: float | None
    """Holm's, over all differences of the report; None where no interval could be computed."""

    @property
    def is_over_seeds(self) -> bool:
        """Whether the claim covers repeated training, not just the networks at hand."""
        return self.found.over_faces_and_seeds is not None

    @property
    def is_significant(self) -> bool:
        """Whether every interval excludes 0."""
        intervals = [i for i in (self.found.over_faces, self.found.over_faces_and_seeds) if i is not None]
        return bool(intervals) and all(low > 0 or high < 0 for low, high in intervals)

    @property
    def stays_significant(self) -> bool:
        """Whether it is significant after Holm's correction as well."""
        return self.is_significant and self.adjusted_p_value is not None and self.adjusted_p_value <= LEVEL

    def verdict(self) -> str:
        """A few words for a table."""
        if self.found.widest is None:
            return "one face: no claim"
        if not self.is_significant:
            return "not distinguishable"
        scope = "" if self.is_over_seeds else " for these networks"
        return f"significant{scope}" if self.stays_significant else f"significant{scope} only on its own"

    def sentence(self) -> str:
        """All of it in words, such as "add is 0.120 dB PSNR below concat …"."""
        form = METRIC_FORMS[self.metric]
        size, unit = f"{abs(self.found.mean):.{form.fine_digits}f}", f" {form.unit}" if form.unit else ""
        relation, judgement = ("above", "better") if self.found.mean > 0 else ("below", "worse")
        if not form.higher_is_better:
            judgement = "better" if judgement == "worse" else "worse"
        amount = f"{size}{unit} {form.name} {relation} {self.reference}"
        start = f"{self.degradation}: {self.variant} is {amount} ({judgement})"
        if float(size) == 0:
            start = f"{self.degradation}: {self.variant} is level with {self.reference} in {form.name} ({size}{unit})"
        if self.found.widest is None:
            return f"{start}; one face allows no claim."
        return f"{start} {interval_text(self.found.widest, form.fine_digits)}: {self._meaning()}."

    def _meaning(self) -> str:
        if not self.is_over_seeds:
            trained = "one seed each" if max(self.num_seeds) == 1 else "one of them trained once only"
            limits = f"({trained}: this says nothing about training again)"
            if not self.is_significant:
                return f"these networks are not distinguishable on such faces {limits}"
            corrected = "" if self.stays_significant else ", but not after correction for all differences looked at"
            return f"these networks differ significantly on such faces{corrected} {limits}"
        if not self.is_significant:
            faces = self.found.over_faces
            only_faces = faces is not None and (faces[0] > 0 or faces[1] < 0)
            return "not distinguishable" + (" from the chance of a seed, though these networks differ" * only_faces)
        return "significant" + (
            ", also after correction for all differences looked at"
            if self.stays_significant
            else " on its own, but not after correction for all differences looked at"
        )


def find_differences(results: Results, reference: str) -> list[Difference]:
    """Compares every variant with the reference, under every degradation and in every metric that has values per face.

    Args:
        results: Of `read_results`.
        reference: Name of a variant; the list is empty if it was not measured.

    Returns:
        The differences, by degradation, variant and metric.
    """
    found = []
    for degradation, table in results.items():
        for variant, measured in table.items():
            for metric in metrics_of(results):
                values = per_face(measured, metric)
                other = per_face(table[reference], metric) if reference in table else None
                if variant != reference and values is not None and other is not None:
                    counts = len(values), len(other)
                    difference = training_difference(values, other)
                    found.append(Difference(variant, reference, degradation, metric, counts, difference, None))
    return _adjusted(found)


def _adjusted(differences: list[Difference]) -> list[Difference]:
    """The same with Holm's p values."""
    p_values = [d.found.p_value for d in differences if d.found.p_value is not None]
    adjusted = iter(holm_adjusted(p_values))
    return [
        Difference(d.variant, d.reference, d.degradation, d.metric, d.num_seeds, d.found, next(adjusted))
        if d.found.p_value is not None
        else d
        for d in differences
    ]


def interval_text(interval: tuple[float, float] | None, digits: int) -> str:
    """Such as "[−0.20, −0.05]"; a dash for none."""
    if interval is None:
        return "–"
    return "[" + ", ".join(signed(end, digits) for end in interval) + "]"


def signed(value: float, digits: int) -> str:
    """A number with its sign, a true minus."""
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")  # + 0.0: no negative zero
