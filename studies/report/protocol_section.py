"""What another person has to know to repeat a comparison."""

from collections.abc import Iterable
from typing import Any

import yaml

from evaluation.metrics.forms import METRIC_FORMS
from evaluation.reports.report import Report
from evaluation.statistics import CONFIDENCE, NUM_DIFFERENCE_RESAMPLES
from studies.report.tables import Findings, Records
from studies.results import first_of

SHOWN_DIGITS = 16
"""Of fingerprints and commits in tables; metrics.json has the whole."""
_DEFINITIONS = (
    (
        "intervals",
        f"{CONFIDENCE:.0%}, percentile bootstrap over faces, {NUM_DIFFERENCE_RESAMPLES:,} resamples of the per-face "
        "differences (paired, averaged over seeds), fixed seed; with seeds: to each resampled mean comes Student's t "
        "times the standard error of the difference of the seeds' means (Welch), seeds not paired; ± is the standard "
        "deviation over seeds",
    ),
    (
        "cost",
        "parameters of the trained network; FLOPs of one restoration in the exported static form: convolutions and "
        "linear layers, a multiplication and an addition are two",
    ),
    ("training time", "from the speeds in train.csv: without start-up and validation, with waiting for data"),
)


def add_protocol(report: Report, findings: Findings) -> None:
    """Adds test set, degradations, metrics, versions and the circumstances of training."""
    results = findings.results
    report.add_heading("Protocol")
    report.add_table(("what", "value"), _test_rows(findings), "How every network was measured")
    for degradation, table in results.items():
        values = first_of(table).protocol["degradation_values"]
        report.add_heading(f"Degradation {degradation}", level=3)
        report.add_commands(yaml.safe_dump(values, sort_keys=False, default_flow_style=None))
    definitions = {name: text for t in results.values() for name, text in first_of(t).protocol["metrics"].items()}
    report.add_table(("metric", "definition"), [(n, text) for n, text in definitions.items() if n in METRIC_FORMS])
    reasons = {reason: name for table in results.values() for row in table.values() for network in row
               for name, reason in network.unavailable.items()}  # fmt: skip
    for reason, name in reasons.items():
        report.add_paragraph(f"{name} was not available: {_without_folders(reason)}")
    rows = _training_rows(findings.records)
    if rows:
        report.add_table(
            ("what", "value"), rows, "Under which circumstances training ran; more than one where they differ"
        )


def distinct(values: Iterable[tuple[str, object]]) -> str:
    """Words who has which value: one value if all agree, else each with those that have it."""
    owners: dict[str, list[str]] = {}
    for who, value in values:
        owners.setdefault(str(value), []).append(who)
    if len(owners) == 1:
        return next(iter(owners))
    return "; ".join(f"{value} ({', '.join(dict.fromkeys(names))})" for value, names in owners.items())


def _test_rows(findings: Findings) -> list[tuple[str, str]]:
    measured = [
        (f"{variant}, {network.member}", network.protocol)
        for table in findings.results.values()
        for variant, row in table.items()
        for network in row
    ]
    first = measured[0][1]
    rows = [
        ("test faces", f"{findings.comparison.faces.name}: the first {first['num_faces']:,} by name"),
        ("fingerprint of the faces (names, sizes)", first["faces_fingerprint"][:SHOWN_DIGITS]),
        ("resolution", f"{first['resolution']} pixels"),
        ("seed of the degradation", str(first["seed"])),
        ("input", first["input"]),
    ]
    for degradation, table in findings.results.items():
        digest = first_of(table).protocol["images_fingerprint"][:SHOWN_DIGITS]
        rows.append((f"fingerprint of all pixels, {degradation}", f"{digest}, the same for all networks"))
    versions = [(who, ", ".join(f"{k} {v}" for k, v in protocol["versions"].items())) for who, protocol in measured]
    rows.append(("versions", distinct(versions)))
    return [*rows, *_DEFINITIONS]


def _training_rows(records: Records) -> list[tuple[str, str]]:
    """What the runs' records say, every session counted."""
    stages = [(f"{variant}, {member}, {stage}", record) for variant, members in records.items()
              for member, found in members.items() for stage, record in found.items()]  # fmt: skip
    if not stages:
        return []
    sessions = [(who, session) for who, record in stages for session in record.sessions]
    return [
        ("training faces", distinct((w, _faces(r.data)) for w, r in stages)),
        ("commit", distinct((w, _commit(s)) for w, s in sessions)),
        ("processor", distinct((w, s["machine"].get("processor", "unknown")) for w, s in sessions)),
        ("GPUs", distinct((w, ", ".join(s["machine"].get("gpus", [])) or "none") for w, s in sessions)),
        ("processes × threads", distinct((w, f"{s['num_processes']} × {s['num_threads']}") for w, s in sessions)),
        ("precision", distinct((w, s["precision"]) for w, s in sessions)),
        ("versions", distinct((w, ", ".join(f"{k} {v}" for k, v in s["versions"].items())) for w, s in sessions)),
    ]


def _faces(data: dict[str, Any]) -> str:
    return f"{data.get('num_faces', '?')} with fingerprint {str(data.get('fingerprint', '?'))[:SHOWN_DIGITS]}"


def _commit(session: dict[str, Any]) -> str:
    changed = " with uncommitted changes" if session.get("git_dirty") else ""
    return f"{str(session.get('git_commit', 'unknown'))[:SHOWN_DIGITS]}{changed}"


def _without_folders(text: str) -> str:
    """Every path of a text shortened to its last name; addresses of the web stay."""
    words = (word if "://" in word or not word.lstrip("('\"").startswith(("/", "~")) else word.rpartition("/")[2]
             for word in text.split())  # fmt: skip
    return " ".join(words)
