"""What came out of a comparison, and the numbers as tables to read and as tidy CSV."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev

import numpy as np
from torch import Tensor

from data.ranges import model_to_uint8, uint8_to_model
from evaluation.metrics.forms import METRIC_FORMS
from evaluation.pairs import PairBatch
from evaluation.reports.tables import changes_in_words, csv_text
from evaluation.statistics import Values, training_difference
from export.static.graph import Cost, count_cost
from inference.restorers import load_restorer
from studies.comparison import Comparison
from studies.records import StageRecord, stage_records
from studies.results import (
    Difference,
    Results,
    find_differences,
    first_of,
    interval_text,
    metrics_of,
    per_face,
    read_results,
    seed_means,
    signed,
)

NUM_EXAMPLES = 6
"""Faces in a picture: the first ones by name, so that nobody chose them."""
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
    costs: dict[str, Cost | None]
    """By the name of the variant; None where its file does not tell its architecture."""
    restored: dict[str, dict[str, Tensor]]
    """What the first member of each variant makes of the examples, uint8 [N, 3, R, R], by degradation."""


def gather(comparison: Comparison) -> Findings:
    """Reads results and records, computes differences and restores the example faces; FileNotFoundError or ValueError
    where one of them is missing, is damaged or has another resolution, or results were not measured on identical
    pairs."""
    results, variants = read_results(comparison), comparison.measured()
    records = {v.name: {member.name: stage_records(member) for member in v.members} for v in variants}
    pairs = _example_pairs(comparison, first_of(next(iter(results.values()))).protocol["resolution"])
    costs: dict[str, Cost | None] = {}
    restored: dict[str, dict[str, Tensor]] = {}
    for variant in variants:
        restorer = load_restorer(variant.members[0].checkpoint)
        costs[variant.name] = None if restorer.architecture is None else count_cost(restorer.architecture)
        restored[variant.name] = {
            name: model_to_uint8(restorer(uint8_to_model(pair.degraded))) for name, pair in pairs.items()
        }
    differences = find_differences(results, comparison.reference)
    return Findings(comparison, results, metrics_of(results), differences, records, pairs, costs, restored)


def _example_pairs(comparison: Comparison, resolution: int) -> dict[str, PairBatch]:
    """The first faces by name, degraded exactly as for the measurement."""
    settings, faces = comparison.measurement, comparison.measurement.pictures.open(comparison.faces)
    number = min(NUM_EXAMPLES, settings.max_faces or NUM_EXAMPLES)
    pairs = {name: settings.pairs_of(faces, resolution, given) for name, given in settings.preset_names().items()}
    return {name: next(iter(replace(all_, batch_size=number, max_faces=number))) for name, all_ in pairs.items()}


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
        costs = (*_cost_texts(findings.costs[variant]), _total_text(findings.records[variant]))
        rows.append([variant, str(len(measured)), *figures, *costs])
    return [*header, "parameters M", "GFLOPs", "training time"], rows


def difference_table(differences: Sequence[Difference]) -> tuple[Header, Rows]:
    """Every difference with both intervals and what may be said."""
    header = ["variant", "degradation", "metric", "difference", "95 % over faces", "95 % over faces and seeds"]
    rows = []
    for difference in differences:
        form, found = METRIC_FORMS[difference.metric], difference.found
        intervals = [interval_text(i, form.fine_digits) for i in (found.over_faces, found.over_faces_and_seeds)]
        p_values = [_p_text(found.p_value), _p_text(difference.adjusted_p_value)]
        shown = [signed(found.mean, form.fine_digits), *intervals, *p_values, difference.verdict()]
        rows.append([difference.variant, difference.degradation, form.heading, *shown])
    return [*header, "p", "adjusted p", "verdict"], rows


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
    totals: list[float | None] = []
    for stages in members.values():
        seconds = [record.seconds for record in stages.values()]
        known = [value for value in seconds if value is not None]
        totals.append(sum(known) if seconds and len(known) == len(seconds) else None)
    return time_text(totals)


def _p_text(value: float | None) -> str:
    return NONE if value is None else f"{value:.4f}"
