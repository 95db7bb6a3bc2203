"""The numbers behind the tables, read from the folders of `scripts.evaluate` and checked for being comparable."""

import csv
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.metrics.choice import METRIC_FORMS
from evaluation.statistics import Values
from inference.restorers import file_digest
from studies.comparison import Comparison, Member

EQUAL = ("images_fingerprint", "num_faces", "resolution", "degradation_values", "seed", "input")
"""What two protocols must share for their numbers to be compared, face by face; definitions of metrics as well."""


@dataclass(frozen=True)
class Measured:
    """How one network did under one degradation."""

    member: str
    """Its name."""
    restored: dict[str, Values]
    """[F] per metric of the restored faces; [1] for a metric of the whole set."""
    degraded: dict[str, Values]
    """The same of the degraded faces."""
    protocol: dict[str, Any]
    """As `evaluation.protocol.Protocol` was stored."""
    unavailable: dict[str, str]
    """Metrics that could not be computed, and why."""


Results = dict[str, dict[str, list[Measured]]]
"""Short name of the degradation, name of the variant: one result per member."""


def read_results(comparison: Comparison) -> Results:
    """Reads every evaluation.

    Raises:
        FileNotFoundError: A member was not measured under a degradation.
        ValueError: A result is damaged, or two were not measured on the same pairs with the same definitions.
    """
    results: Results = {}
    for degradation in comparison.measurement.preset_names():
        results[degradation] = {}
        for variant in comparison.measured():
            measured = [_read(member, degradation) for member in variant.members]
            results[degradation][variant.name] = measured
        _check_comparable(degradation, results[degradation])
    return results


def first_measured(results: Results) -> Measured:
    """Any result, for what all share."""
    return next(iter(next(iter(results.values())).values()))[0]


def metrics_of(results: Results) -> list[str]:
    """The metrics that anything has, in the order of the tables."""
    found = {metric for table in results.values() for row in table.values() for one in row for metric in one.restored}
    return [metric for metric in METRIC_FORMS if metric in found]


def seed_means(measured: list[Measured], metric: str) -> list[float]:
    """The mean over faces of every member; empty unless all of them have the metric."""
    if any(metric not in one.restored for one in measured):
        return []
    return [float(one.restored[metric].mean()) for one in measured]


def per_face(measured: list[Measured], metric: str) -> Values | None:
    """[S, F], a row per member, or None where one lacks the metric or it has no value per face."""
    columns = [one.restored[metric] for one in measured if metric in one.restored]
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
        missing = [
            name
            for name in (*EQUAL, "metrics", "versions", "faces_fingerprint", "model_sha256")
            if name not in protocol
        ]
        if missing or len(rows) != protocol["num_faces"]:
            raise ValueError(f"{len(rows)} faces; without {', '.join(missing) or 'gaps'}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"the results in {folder} are damaged ({' '.join(str(error).split())}); remove them"
        ) from error
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
    """Raises where pairs or definitions differ from those of the first result."""
    named = [(f"{name}, {one.member}", one.protocol) for name, row in table.items() for one in row]
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
