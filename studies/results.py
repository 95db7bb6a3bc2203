"""The numbers behind the tables, read from the folders of `scripts.evaluate` and checked for being comparable."""

import csv
import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evaluation.metrics.forms import METRIC_FORMS
from evaluation.statistics import TrainingDifference, Values, holm_adjusted, training_difference
from inference.restorers import file_digest
from studies.comparison import Comparison, Member
from system.wording import counted, unwrapped

EQUAL = ("images_fingerprint", "num_faces", "resolution", "degradation_values", "seed", "input")
"""What two protocols must share for their numbers to be compared, face by face; definitions of metrics as well."""


@dataclass(frozen=True)
class Measured:
    """How one network did under one degradation."""

    member: str
    restored: dict[str, Values]
    """[F] per metric of the restored faces; [1] for a metric of the whole set."""
    degraded: dict[str, Values]
    protocol: dict[str, Any]
    """As `evaluation.protocol.Protocol` was stored."""
    unavailable: dict[str, str]


Results = dict[str, dict[str, list[Measured]]]
"""Short name of the degradation, name of the variant: one result per member."""


def read_results(comparison: Comparison) -> Results:
    """Reads every evaluation; FileNotFoundError where a member was not measured under a degradation, ValueError where a
    result is damaged, or two were not measured on the same pairs with the same definitions."""
    results: Results = {}
    for degradation in comparison.measurement.preset_names():
        results[degradation] = {}
        for variant in comparison.measured():
            measured = [_read(member, degradation) for member in variant.members]
            results[degradation][variant.name] = measured
        _check_comparable(degradation, results[degradation])
    return results


def first_of(table: dict[str, list[Measured]]) -> Measured:
    """Any result under one degradation, for what all share."""
    return next(iter(table.values()))[0]


def metrics_of(results: Results) -> list[str]:
    """The metrics that anything has, in the order of the tables."""
    found = {m for table in results.values() for row in table.values() for measured in row for m in measured.restored}
    return [metric for metric in METRIC_FORMS if metric in found]


def seed_means(measured: list[Measured], metric: str) -> list[float]:
    """The mean over faces of every member; empty unless all of them have the metric."""
    if any(metric not in network.restored for network in measured):
        return []
    return [float(network.restored[metric].mean()) for network in measured]


def per_face(measured: list[Measured], metric: str) -> Values | None:
    """[S, F], a row per member, or None where one lacks the metric or it has no value per face."""
    columns = [network.restored[metric] for network in measured if metric in network.restored]
    if len(columns) < len(measured) or len(columns[0]) != measured[0].protocol["num_faces"]:
        return None
    return np.stack(columns)


def _read(member: Member, degradation: str) -> Measured:
    folder = member.evaluations.get(degradation)
    if folder is None or not (folder / "metrics.json").is_file():
        raise FileNotFoundError(f"{member.name} was not measured under {degradation} ({folder}); evaluate it first")
    try:
        summary = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        with (folder / "per_image.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        states = {state: _values(summary, rows, state) for state in ("restored", "degraded")}
        protocol, unavailable = summary["protocol"], summary["unavailable"]
        needed = (*EQUAL, "metrics", "versions", "faces_fingerprint", "model_sha256")
        missing = [name for name in needed if name not in protocol]
        if missing or len(rows) != protocol["num_faces"]:
            raise ValueError(f"{counted(len(rows), 'face')}; without {', '.join(missing) or 'gaps'}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the results in {folder} are damaged ({unwrapped(error)}); remove them") from error
    if protocol["model_sha256"] != file_digest(member.checkpoint):
        raise ValueError(f"the results in {folder} are not those of {member.checkpoint}; evaluate it again")
    return Measured(member.name, states["restored"], states["degraded"], protocol, unavailable)


def _values(summary: dict[str, Any], rows: list[dict[str, str]], state: str) -> dict[str, Values]:
    """Per face where there is a column, else the one value of the whole set."""
    values: dict[str, Values] = {}
    for metric in METRIC_FORMS:
        if metric in summary[state]:
            column = f"{state}_{metric}"
            cells = [row[column] for row in rows] if column in rows[0] else [summary[state][metric]["mean"]]
            values[metric] = np.array(cells, dtype=np.float64)
    return values


def _check_comparable(degradation: str, table: dict[str, list[Measured]]) -> None:
    named = [(f"{name}, {network.member}", network.protocol) for name, row in table.items() for network in row]
    first_name, first = named[0]
    for name, protocol in named[1:]:
        different = [key for key in EQUAL if protocol[key] != first[key]]
        shared = protocol["metrics"].keys() & first["metrics"].keys()
        different += [f"definition of {metric}" for metric in sorted(shared)
                      if protocol["metrics"][metric] != first["metrics"][metric]]  # fmt: skip
        if different:
            raise ValueError(
                f"compared networks must be measured on identical pairs of faces, {first_name} and {name} were not "
                f"under {degradation} ({', '.join(different)} differ); evaluate them with one protocol"
            )


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
        return bool(self.found.is_significant)

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
        form, change = METRIC_FORMS[self.metric], self.found.mean
        start = f"{self.degradation}: {self.variant} is "
        if not self.is_significant and round(change, form.fine_digits) == 0:
            unit = f" {form.unit}" if form.unit else ""
            start += f"level with {self.reference} in {form.name} ({abs(change):.{form.fine_digits}f}{unit})"
        else:
            start += f"{form.amount(change)} {'above' if change > 0 else 'below'} {self.reference}"
        if self.is_significant:
            start += " (better)" if form.is_better(change) else " (worse)"
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
    """Compares every variant with the reference, under every degradation and in every metric that has values per face:
    by degradation, variant and metric; none if the reference was not measured."""
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
    adjusted = iter(holm_adjusted([d.found.p_value for d in found if d.found.p_value is not None]))
    return [d if d.found.p_value is None else replace(d, adjusted_p_value=next(adjusted)) for d in found]


def interval_text(interval: tuple[float, float] | None, digits: int) -> str:
    """Such as "[−0.20, −0.05]"; a dash for none."""
    if interval is None:
        return "–"
    return "[" + ", ".join(signed(end, digits) for end in interval) + "]"


def signed(value: float, digits: int) -> str:
    """A number with its sign, a true minus."""
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")  # + 0.0: no negative zero
