"""The numbers as tables to read and as tidy CSV."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import mean, stdev

import numpy as np

from evaluation.metrics.forms import METRIC_FORMS
from evaluation.reports.tables import changes_in_words, csv_text
from evaluation.statistics import Values, training_difference
from export.static.graph import Cost
from studies.records import StageRecord
from studies.report.findings import Findings, Records
from studies.results import Difference, first_of, interval_text, per_face, seed_means, signed

Header = list[str]
Rows = list[list[str]]
NONE = "–"
INPUT = "degraded input"


def quality_table(findings: Findings, degradation: str) -> tuple[Header, Rows]:
    """Means and standard deviations over seeds under one degradation, and what they cost; first the degraded faces."""
    table, metrics = findings.results[degradation], findings.metrics
    header = ["variant", "seeds", *(METRIC_FORMS[metric].heading for metric in metrics)]
    first = first_of(table)
    rows = [[INPUT, NONE, *(_mean_text(metric, first.degraded.get(metric)) for metric in metrics), NONE, NONE, NONE]]
    for variant, measured in table.items():
        figures = [_spread_text(seed_means(measured, m), METRIC_FORMS[m].fine_digits) for m in metrics]
        rows.append(
            [
                variant,
                str(len(measured)),
                *figures,
                *_cost_texts(findings.costs[variant]),
                _total_text(findings.records[variant]),
            ]
        )
    return [*header, "parameters M", "GFLOPs", "training time"], rows


def difference_table(differences: Sequence[Difference]) -> tuple[Header, Rows]:
    """Every difference with both intervals and what may be said."""
    header = [
        "variant",
        "degradation",
        "metric",
        "difference",
        "95 % over faces",
        "95 % over faces and seeds",
        "p",
        "adjusted p",
        "verdict",
    ]
    rows = []
    for difference in differences:
        digits = METRIC_FORMS[difference.metric].fine_digits
        shown = [
            signed(difference.found.mean, digits),
            interval_text(difference.found.over_faces, digits),
            interval_text(difference.found.over_faces_and_seeds, digits),
            _p_text(difference.found.p_value),
            _p_text(difference.adjusted_p_value),
        ]
        rows.append(
            [
                difference.variant,
                difference.degradation,
                METRIC_FORMS[difference.metric].heading,
                *shown,
                difference.verdict(),
            ]
        )
    return header, rows


def harm_sentences(findings: Findings) -> list[str]:
    """Says under which degradation and in which metrics a variant makes faces worse than they came, and where that
    cannot be told: for training again as well where it was trained with several seeds."""
    texts = []
    for degradation, table in findings.results.items():
        alike: dict[str, list[str]] = {}
        for variant, measured in table.items():
            changes = {}
            for metric in findings.metrics:
                after, before = per_face(measured, metric), measured[0].degraded.get(metric)
                if after is not None and before is not None:
                    changes[metric] = training_difference(after, np.stack([before] * len(after)))
            worse, unsure = changes_in_words(changes)
            if worse:
                texts.append(f"{degradation}: {variant} makes faces worse: {worse} the degraded faces it was given.")
            if unsure:
                alike.setdefault(unsure, []).append(variant)
        texts += [
            f"{degradation}: cannot be told apart from the degraded input in {unsure}: {', '.join(variants)}."
            for unsure, variants in alike.items()
        ]
    return texts


def cost_sentences(findings: Findings) -> list[str]:
    """Says what each variant costs beside the reference, where that differs."""
    costs, reference = findings.costs, findings.comparison.reference
    first = costs.get(reference)
    return [
        f"{variant} takes {cost.flops / 1e9:.3f} GFLOPs for a face, {abs(cost.flops / first.flops - 1):.1%} "
        f"{'more' if cost.flops > first.flops else 'less'} than {reference}."
        for variant, cost in costs.items()
        if first is not None and cost is not None and cost.flops != first.flops
    ]


def training_table(records: Records) -> tuple[Header, Rows]:
    """Images and time of every stage, mean ± standard deviation over seeds."""
    rows = []
    for variant, members in records.items():
        for stage in dict.fromkeys(stage for stages in members.values() for stage in stages):
            found = {name: stages[stage] for name, stages in members.items() if stage in stages}
            images = sorted({record.images_seen for record in found.values()})
            times = [record.seconds for record in found.values()]
            speeds = [r.images_seen / r.seconds for r in found.values() if r.seconds]
            notes = [f"{name}: {record.seconds_note}" for name, record in found.items() if record.seconds_note]
            rows.append([variant, stage, str(len(found)), " to ".join(f"{n:,}" for n in {images[0]: 0, images[-1]: 0}),
                         time_text(times), _spread_text(speeds, 1), "; ".join(notes)])  # fmt: skip
    return ["variant", "stage", "seeds", "images seen", "training time", "images/s", "note on the time"], rows


def time_text(seconds: Sequence[float | None]) -> str:
    """Mean ± standard deviation in minutes, from three hours on in hours; a dash if one is unknown."""
    known = [value for value in seconds if value is not None]
    if not known or len(known) < len(seconds):
        return NONE
    divisor, unit = (3600, "h") if mean(known) >= 3 * 3600 else (60, "min")
    return f"{_spread_text([value / divisor for value in known], 1)} {unit}"


def tidy_csv(findings: Findings) -> str:
    """One number a row: of variant × member × degradation × metric, and what each network cost (no degradation)."""
    return csv_text(["variant", "member", "degradation", "metric", "value"], _tidy_rows(findings))


def _tidy_rows(findings: Findings) -> Iterator[Sequence[object]]:
    for degradation, table in findings.results.items():
        for metric, values in first_of(table).degraded.items():
            yield INPUT, "", degradation, metric, float(values.mean())
        for name, measured in table.items():
            for network in measured:
                for metric, values in network.restored.items():
                    yield name, network.member, degradation, metric, float(values.mean())
    for variant in findings.comparison.measured():
        cost = findings.costs[variant.name]
        for member in variant.members:
            if cost is not None:
                yield variant.name, member.name, "", "parameters", cost.parameters
                yield variant.name, member.name, "", "flops", cost.flops
            for stage, record in findings.records[variant.name][member.name].items():
                yield variant.name, member.name, "", f"{stage} images_seen", record.images_seen
                if record.seconds is not None:
                    yield variant.name, member.name, "", f"{stage} training_seconds", record.seconds


def differences_csv(differences: Sequence[Difference]) -> str:
    """Every difference at full precision; an empty field where there is no interval."""
    header = ["variant", "reference", "degradation", "metric", "difference", "faces_low", "faces_high",
              "faces_and_seeds_low", "faces_and_seeds_high", "p", "holm_p", "verdict"]  # fmt: skip
    rows = []
    for difference in differences:
        intervals = [*(difference.found.over_faces or ("", "")), *(difference.found.over_faces_and_seeds or ("", ""))]
        p_values = ["" if p is None else p for p in (difference.found.p_value, difference.adjusted_p_value)]
        names = [difference.variant, difference.reference, difference.degradation, difference.metric]
        rows.append([*names, difference.found.mean, *intervals, *p_values, difference.verdict()])
    return csv_text(header, rows)


def spread_caption(findings: Findings, degradation: str) -> str:
    """Says what the figures of `quality_table` are, and why some stand alone."""
    is_single = any(len(measured) == 1 for measured in findings.results[degradation].values())
    return "mean ± standard deviation over seeds" + "; one seed has no deviation: its figure stands alone" * is_single


def _spread_text(values: Sequence[float], digits: int) -> str:
    """Mean ± standard deviation of a sample; one value alone, since it has no deviation; a dash without values."""
    if not values:
        return NONE
    deviation = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{deviation}"


def _mean_text(metric: str, values: Values | None) -> str:
    return NONE if values is None else f"{values.mean():.{METRIC_FORMS[metric].fine_digits}f}"


def _cost_texts(cost: Cost | None) -> tuple[str, str]:
    return (NONE, NONE) if cost is None else (f"{cost.parameters / 1e6:.3f}", f"{cost.flops / 1e9:.3f}")


def _total_text(members: Mapping[str, Mapping[str, StageRecord]]) -> str:
    """Training time of all stages together."""
    totals: list[float | None] = []
    for stages in members.values():
        seconds = [record.seconds for record in stages.values()]
        known = [value for value in seconds if value is not None]
        totals.append(sum(known) if seconds and len(known) == len(seconds) else None)
    return time_text(totals)


def _p_text(value: float | None) -> str:
    return NONE if value is None else f"{value:.4f}"
