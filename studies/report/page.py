"""The report from top to bottom."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from evaluation.metrics.forms import METRIC_FORMS
from evaluation.reports.charts import Curve, ForestPanel, ForestRow, columns_of, curves_svg, forest_svg
from evaluation.reports.pictures import comparison_rows
from evaluation.reports.report import Report
from models.files.run_folder import images_of
from studies.comparison import Comparison, Variant, file_name
from studies.records import differences_within, differing_settings, public_config
from studies.report import tables
from studies.report.protocol_section import add_protocol
from studies.report.tables import Findings, gather
from studies.results import first_of
from system.atomic_file import write_atomically
from system.wording import counted

CONFIGS_FOLDER = "configs"
SCALE_FROM = 0.2
"""The first fifth of a run does not set the scale: it would hide what differs later."""


_QUANTITIES = (
    ("validation.csv", "validation/psnr", "PSNR [dB]", "PSNR on validation faces"),
    ("validation.csv", "validation/lpips", "LPIPS", "LPIPS on validation faces"),
    ("validation.csv", "validation/fid", "FID", "FID of drawn faces"),
    ("train.csv", "generator/l1", "L1", "L1 loss in training"),
    ("train.csv", "generator/smooth_l1", "smooth L1", "smooth L1 loss in training"),
)
"""Columns of a run's tables: file, name, label and caption."""


def comparison_page(findings: Findings, with_photographs: bool) -> Report:
    """Puts everything together; without photographs degraded and target faces are left out."""
    comparison = findings.comparison
    page = Report(comparison.title)
    for text in (comparison.question, comparison.notes):
        if text:
            page.add_paragraph(text)
    _add_variants(page, comparison)
    _add_answers(page, findings)
    _add_forest(page, findings)
    _add_faces(page, findings, with_photographs)
    page.add_heading("Results")
    for degradation, table in findings.results.items():
        first = first_of(table).protocol
        caption = (
            f"Degradation {degradation}: {counted(first['num_faces'], 'face')} at {first['resolution']} pixels; "
            f"{tables.spread_caption(findings, degradation)}"
        )
        page.add_table(*tables.quality_table(findings, degradation), caption)
    _add_differences(page, findings)
    _add_training(page, findings)
    _add_settings(page, findings)
    add_protocol(page, findings)
    if comparison.commands:
        page.add_heading("Commands that repeat it")
        page.add_commands(comparison.commands)
    return page


def config_texts(findings: Findings) -> dict[str, tuple[str, str]]:
    """File of each variant's and stage's configuration to its title and text: of the first member, paths shortened."""
    texts: dict[str, tuple[str, str]] = {}
    for variant in findings.comparison.measured():
        member = variant.members[0].name
        for stage, record in findings.records[variant.name][member].items():
            file = f"{CONFIGS_FOLDER}/{file_name(variant.name)}_{file_name(stage)}.yaml"
            text = yaml.safe_dump(public_config(record.config), sort_keys=False)
            texts[file] = f"{variant.name}, {stage} ({member})", text
    return texts


def _add_variants(page: Report, comparison: Comparison) -> None:
    described = [(variant.name, variant.description) for variant in comparison.variants if variant.description]
    if described:
        page.add_table(("variant", "what it is"), described)
    if comparison.missing:
        page.add_heading("What is missing")
        page.add_table(("what", "why"), list(comparison.missing.items()))


def _add_answers(page: Report, findings: Findings) -> None:
    """PSNR in words; all other metrics stand in the table of differences."""
    page.add_heading("In words")
    texts = [difference.sentence() for difference in findings.differences if difference.metric == "psnr"]
    if not texts:
        measured = len(findings.comparison.measured())
        reason = f"the reference {findings.comparison.reference} was not" if measured > 1 else "one variant was"
        page.add_paragraph(f"No differences: {reason} measured.")
    texts += [*tables.harm_sentences(findings), *tables.cost_sentences(findings)]
    if texts:
        page.add_list(texts)


def _add_forest(page: Report, findings: Findings) -> None:
    """Every difference as a line, before the tables that say the same in numbers."""
    panels = []
    for metric in findings.metrics:
        rows = [
            ForestRow(
                f"{difference.variant}, {difference.degradation}",
                difference.found.mean,
                difference.found.over_faces,
                difference.found.over_faces_and_seeds,
                difference.stays_significant,
            )
            for difference in findings.differences
            if difference.metric == metric
        ]
        form = METRIC_FORMS[metric]
        unit = f" [{form.unit}]" if form.unit else ""
        better = "right" if form.higher_is_better else "left"
        if rows:
            panels.append(ForestPanel(f"{form.name}{unit} minus that of {findings.comparison.reference}; "
                                      f"better is to the {better}", rows))  # fmt: skip
    if panels:
        caption = (
            f"Differences from {findings.comparison.reference}, each variant under each degradation. Thick: 95 % "
            "interval for these networks on other faces; thin: for training again with other seeds as well. Filled and "
            "blue: significant after correction for all differences; hollow and grey: not"
        )
        page.add_svg(forest_svg(panels), caption, name="differences")


def _add_differences(page: Report, findings: Findings) -> None:
    differences = findings.differences
    if not differences:
        return
    page.add_heading(f"Differences from {findings.comparison.reference}")
    page.add_paragraph(
        f"Differences looked at: {len(differences)}. One is significant if both 95 % intervals exclude 0: for these "
        "networks on other faces, and for training again with other seeds as well. Where a variant was trained "
        "once, only the first exists and the claim is about these networks alone. Among so many, some differ by "
        "chance: 'significant' means that a difference also withstands Holm's correction for all of them (adjusted p "
        "at most 0.05)."
    )
    page.add_table(*tables.difference_table(differences))
    page.add_list([difference.sentence() for difference in differences if difference.metric != "psnr"])


def _add_faces(page: Report, findings: Findings, with_photographs: bool) -> None:
    """One row per example face: degraded, every variant, target; degraded and target faces only with photographs."""
    page.add_heading("Faces")
    for degradation, batch in findings.pairs.items():
        shown = [(name, restored[degradation]) for name, restored in findings.restored.items()]
        if with_photographs:
            shown = [("degraded", batch.degraded), *shown, ("target", batch.target)]
        headings, columns = zip(*shown, strict=True)
        members = {variant.members[0].name for variant in findings.comparison.measured()}
        seeds = ", ".join(sorted(members - set(headings)))  # a file has one name for both
        left_out = "" if with_photographs else "; degraded and target faces may not be published"
        caption = (
            f"Degradation {degradation}, from left to right: {' | '.join(headings)}; one face a row, the first "
            f"{len(batch.names)} by name{f'; {seeds}' if seeds else ''}{left_out}"
        )
        page.add_picture(comparison_rows(columns, headings), caption, name=file_name(f"faces_{degradation}"))


def _add_training(page: Report, findings: Findings) -> None:
    header, rows = tables.training_table(findings.records)
    if not rows:
        return
    page.add_heading("Training")
    page.add_table(header, rows, "Time of training alone, as logged; see the protocol")
    _add_curves(page, findings.comparison)
    shown: set[Path] = set()
    for variant in findings.comparison.measured():
        member = variant.members[0]
        record = findings.records[variant.name][member.name].get("prior")
        if record is None or record.run.resolve() in shown:
            continue
        shown.add(record.run.resolve())
        samples = [
            p for p in sorted((record.run / "samples").glob("images_*.png")) if images_of(p) <= record.images_seen
        ]
        if samples:
            drawn = np.asarray(Image.open(samples[-1]).convert("RGB"))
            caption = f"What the prior of {variant.name} ({member.name}) draws after {images_of(samples[-1]):,} images"
            page.add_picture(drawn[: len(drawn) // 2], caption, name=file_name(f"prior_{variant.name}"))


def _add_curves(report: Report, comparison: Comparison) -> None:
    """Adds a chart for every stage and quantity of which some variant has a record."""
    stages = dict.fromkeys(stage for v in comparison.variants for member in v.members for stage in member.runs)
    for stage in stages:
        for file, column, label, title in _QUANTITIES:
            curves = [c for v in comparison.variants if (c := _variant_curve(v, stage, file, column)) is not None]
            if curves:
                caption = f"{stage}: {title}"
                if any(curve.low for curve in curves):
                    caption += "; mean over seeds, the band reaches from the lowest to the highest"
                caption += f". The first {SCALE_FROM:.0%} of the images do not set the scale."
                drawing = curves_svg(curves, "images seen", label, scale_from=SCALE_FROM)
                report.add_svg(drawing, caption, name=file_name(f"{stage}_{column.replace('/', '_')}"))


def mean_curve(label: str, curves: Sequence[Curve]) -> Curve | None:
    """The mean of several runs where all of them have a point, with a band from the lowest to the highest where there
    are several; None without common points."""
    tables = [dict(zip(curve.x, curve.y, strict=True)) for curve in curves]
    common = sorted(set.intersection(*(set(table) for table in tables))) if tables else []
    if not common:
        return None
    values = np.array([[table[x] for x in common] for table in tables])
    mean = values.mean(axis=0).tolist()
    if len(curves) == 1:
        return Curve(label, common, mean)
    return Curve(label, common, mean, values.min(axis=0).tolist(), values.max(axis=0).tolist())


def _variant_curve(variant: Variant, stage: str, file: str, column: str) -> Curve | None:
    paths = [member.runs[stage] / file for member in variant.members if stage in member.runs]
    curves = [curve for path in paths if path.is_file() for curve in columns_of(path, [column])]
    return mean_curve(variant.name, curves)


def _add_settings(page: Report, findings: Findings) -> None:
    texts = config_texts(findings)
    if not texts:
        return
    page.add_heading("Settings")
    first = {v.name: findings.records[v.name][v.members[0].name] for v in findings.comparison.measured()}
    first = {name: stages for name, stages in first.items() if stages}  # a file has no settings that could differ
    rows = differing_settings(first)
    if rows:
        page.add_table(("setting", *first), rows, "What differs among the variants, but for seeds and folders")
    else:
        page.add_paragraph("All variants have the same settings, but for seeds and folders.")
    for variant, members in findings.records.items():
        names = differences_within(members)
        if names:
            page.add_paragraph(f"Attention: the members of {variant} differ in more than the seed: {', '.join(names)}.")
    page.add_paragraph("Resolved configurations, folders of the machine left out:")
    for file, (title, text) in texts.items():
        page.add_folded(title, text, file)


def write_comparison(comparison: Comparison, folder: Path, with_photographs: bool = True) -> Path:
    """Writes report.html (self-contained), report.md with pictures/, report.csv, differences.csv and configs/, and
    returns the path of the page. Every member has been measured under every degradation; without photographs degraded
    and target faces, which may not be published, are left out. FileNotFoundError or ValueError where a result, a run or
    a checkpoint is missing or damaged, or results were not measured on identical pairs."""
    return write_findings(gather(comparison), folder, with_photographs)


def write_findings(findings: Findings, folder: Path, with_photographs: bool = True) -> Path:
    """Like `write_comparison`, from what was gathered already."""
    page = comparison_page(findings, with_photographs)
    for file, (_, text) in config_texts(findings).items():
        write_atomically(folder / file, text)
    write_atomically(folder / "report.csv", tables.tidy_csv(findings))
    write_atomically(folder / "differences.csv", tables.differences_csv(findings.differences))
    page.write_markdown(folder / "report.md")
    return page.write(folder / "report.html")
