"""Tables: results of an evaluation or scores of a folder as JSON, CSV and rows to print; those of a run, read."""

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evaluation.identity_guard import CALIBRATION, GuardedFace, Verdict, count_verdicts, state
from evaluation.identity_guard import COLUMNS as GUARD_COLUMNS
from evaluation.metrics.choice import Metrics
from evaluation.metrics.forms import METRIC_FORMS, MetricForm, form_of, in_order
from evaluation.protocol import Evaluation
from evaluation.reports.pictures import worst_and_best, write_png
from evaluation.scoring import ConventionMeans, FolderScores
from evaluation.statistics import MeanInterval, TrainingDifference
from system.atomic_file import write_atomically
from system.wording import printable


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Writes per_image.csv, best_worst.png and, last, metrics.json: a folder that has it is complete."""
    (folder / "metrics.json").unlink(missing_ok=True)
    write_atomically(folder / "per_image.csv", per_image_csv(evaluation))
    write_png(folder / "best_worst.png", worst_and_best(evaluation))
    write_atomically(folder / "metrics.json", metrics_json(evaluation))


def metrics_json(evaluation: Evaluation) -> str:
    """Means, intervals, unavailable metrics and the whole protocol as JSON text."""
    summary = evaluation.summary()
    if verdicts := identity_verdicts(evaluation):
        summary["identity_verdicts"] = verdicts | {"calibration": CALIBRATION}
    text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", "backslashreplace").decode()  # names that are no UTF-8, as JSON escapes them


def per_image_csv(evaluation: Evaluation) -> str:
    """One line per face: its name, every metric of the degraded and of the restored image at full precision, and what
    their identity distances say."""
    metrics = list(evaluation.rows[0].degraded)
    header = ["name", *(f"degraded_{name}" for name in metrics), *(f"restored_{name}" for name in metrics)]
    rows = [[row.name, *(values[name] for values in row[1:] for name in metrics)] for row in evaluation.rows]
    verdicts = _verdicts_of_faces(evaluation)
    header += [f"{compared}_identity_verdict" for compared in verdicts]
    return csv_text(header, [[*row, *said] for row, *said in zip(rows, *verdicts.values(), strict=True)])


def write_guarded(file: Path, names: Sequence[str], faces: Sequence[GuardedFace]) -> str:
    """Writes what an identity guard found, a line for each face, and says it in a sentence."""
    rows = [(name, *face.row()) for name, face in zip(names, faces, strict=True)]
    write_atomically(file, csv_text(("name", *GUARD_COLUMNS), rows))
    counts = count_verdicts([face.found.distance for face in faces])
    found = ", ".join(f"{verdict} {number}" for verdict, number in counts.items())
    blended = sum(face.strength < 1 for face in faces)
    return f"Identity of the given faces: {found}; {blended} blended back; {file} ({CALIBRATION})."


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as CSV, numbers at full precision; a text that a spreadsheet would take for a formula gets an apostrophe
    before it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_cell_text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return text.getvalue()


def read_rows(path: Path) -> dict[int, dict[str, str]]:
    """Reads train.csv or validation.csv of a run: the cells, numbers or empty, by images seen, in the order of the
    file; nothing where there is no file. A last line without an end counts as not written: it still is, or a full disk
    cut it off. A ValueError names the line at which the file is damaged."""
    if not os.path.lexists(path):
        return {}
    rows: dict[int, dict[str, str]] = {}
    reader: csv.DictReader[str] | None = None
    try:
        whole_lines = path.read_text(encoding="utf-8").rpartition("\n")[0]
        reader = csv.DictReader(io.StringIO(whole_lines), restval="")
        if "images_seen" not in (reader.fieldnames or ()):
            raise ValueError("there is no column images_seen")
        for cells in reader:
            rows[int(cells.pop("images_seen"))] = cells
            [float(cell) for cell in cells.values() if cell]
    except (ValueError, TypeError, csv.Error) as error:
        where = f" in line {reader.line_num}" if reader else ""
        raise ValueError(
            f"{path} is damaged{where} ({str(error)[:100]}); mend it, or move it away: the run goes on without its rows"
        ) from error
    return rows


def _cell_text(text: str) -> str:
    return f"'{printable(text)}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else printable(text)


def summary_rows(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table people read: a metric in each row; degraded, restored and difference in columns."""
    tables = {"degraded": evaluation.degraded, "restored": evaluation.restored, "difference": evaluation.difference}
    rows = []
    for metric in in_order(evaluation.degraded):
        form = form_of(metric)
        before, after, change = (table[metric] for table in tables.values())
        rows.append([form.heading, _cell(form, before), _cell(form, after), _cell(form, change, "+")])
    return ["metric", *tables], rows


Change = MeanInterval | TrainingDifference


def changes_in_words(changes: Mapping[str, Change]) -> tuple[str, str]:
    """Metrics that changed for the worse, such as "1.671 dB PSNR below, 0.0441 SSIM below", and those whose change
    cannot be told from none, such as "PSNR and identity"; empty for none.

    A change is judged, to either side, where its intervals exclude 0; without an interval (one face, a metric of the
    whole set, or one whose better direction is not known) it is in neither. Changes are restored minus degraded.
    """
    worse, unsure = [], []
    for metric, change in changes.items():
        form = form_of(metric)
        if form.higher_is_better is None or change.is_significant is None:
            continue
        if not change.is_significant:
            unsure.append(form.name)
        elif form.is_better(change.mean) is False:
            worse.append(f"{form.amount(change.mean)} {'below' if change.mean < 0 else 'above'}")
    return ", ".join(worse), " and ".join(filter(None, (", ".join(unsure[:-1]), *unsure[-1:])))


def harm_sentence(evaluation: Evaluation) -> str:
    """Says in which metrics the restored faces are worse than the degraded ones; empty where they are in none."""
    worse, _ = changes_in_words(evaluation.difference)
    return f"The restored faces are worse than the degraded ones: {worse} these." if worse else ""


def level_sentence(evaluation: Evaluation) -> str:
    """Says in which metrics restored and degraded faces cannot be told apart; empty where they can be in all."""
    _, unsure = changes_in_words(evaluation.difference)
    return f"In {unsure} the restored faces cannot be told apart from the degraded ones." if unsure else ""


def effect_sentences(evaluation: Evaluation) -> list[str]:
    """What restoring did to the faces beside what may be chance, in words; nothing where all is better."""
    return [sentence for sentence in (harm_sentence(evaluation), level_sentence(evaluation)) if sentence]


def identity_verdicts(measured: Evaluation | FolderScores) -> dict[str, dict[Verdict, int]]:
    """Faces whose identity was kept, is doubtful or lost beside the target, by what was compared (degraded, restored,
    or the results of a folder); empty without that metric."""
    return {name: count_verdicts(distances) for name, distances in _identity_distances(measured).items()}


def _verdicts_of_faces(measured: Evaluation | FolderScores) -> dict[str, list[Verdict]]:
    """The verdict of each face, likewise."""
    found = _identity_distances(measured)
    return {name: [state(distance).verdict for distance in distances] for name, distances in found.items()}


def _identity_distances(measured: Evaluation | FolderScores) -> dict[str, list[float]]:
    if isinstance(measured, FolderScores):
        compared = {"results": list(measured.rows.values())}
    else:
        compared = {name: [getattr(row, name) for row in measured.rows] for name in ("degraded", "restored")}
    return {name: [r["identity"] for r in rows] for name, rows in compared.items() if rows and "identity" in rows[0]}


def identity_sentence(measured: Evaluation | FolderScores) -> str:
    """The verdicts and their calibration in words; empty without that metric."""
    verdicts = identity_verdicts(measured)
    if not verdicts:
        return ""
    counts = [
        f"{name}: " + ", ".join(f"{verdict} {number}" for verdict, number in count.items())
        for name, count in verdicts.items()
    ]
    return f"Identity of the target, {'; '.join(counts)} ({CALIBRATION})."


def _cell(form: MetricForm, value: MeanInterval, sign: str = "", between: str = " ") -> str:
    """Mean and interval, such as `24.31 [24.02, 24.60]`, a `+` for the sign before what is not negative."""
    style = f"{sign}.{form.digits}f"
    if value.low is None or value.high is None:
        return format(value.mean, style)
    return f"{value.mean:{style}}{between}[{value.low:{style}}, {value.high:{style}}]"


def write_scores(folder: Path, scores: FolderScores, metrics: Metrics) -> None:
    """Writes per_image.csv and, last, metrics.json."""
    (folder / "metrics.json").unlink(missing_ok=True)
    verdicts = _verdicts_of_faces(scores)
    header = ["name", *next(iter(scores.rows.values())), *("identity_verdict" for _ in verdicts)]
    rows = [(name, *values.values()) for name, values in scores.rows.items()]
    rows = [(*row, *said) for row, *said in zip(rows, *verdicts.values(), strict=True)]
    write_atomically(folder / "per_image.csv", csv_text(header, rows))
    summary: dict[str, Any] = {
        "results": {name: asdict(value) for name, value in scores.means.items()},
        "conventions": [asdict(convention) for convention in scores.conventions],
        "sizes": scores.sizes,
        "unavailable": dict(metrics.unavailable),
        "metrics": metrics.definitions(),
    }
    if verdicts:
        summary["identity_verdicts"] = {**identity_verdicts(scores), "calibration": CALIBRATION}
    write_atomically(folder / "metrics.json", json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False))


def score_rows(scores: FolderScores) -> list[list[str]]:
    """Head and one row."""
    names = in_order(scores.means)
    return [[form_of(n).heading for n in names], [_cell(form_of(n), scores.means[n], between="\n") for n in names]]


def convention_rows(conventions: Sequence[ConventionMeans]) -> list[list[str]]:
    """Head and a row for each convention."""
    psnr, ssim = METRIC_FORMS["psnr"], METRIC_FORMS["ssim"]
    rows = [["convention", "used by", psnr.heading, ssim.heading]]
    for means in conventions:
        cells = _cell(psnr, means.psnr, between="\n"), _cell(ssim, means.ssim, between="\n")
        rows.append([means.name, means.used_by, *cells])
    return rows
