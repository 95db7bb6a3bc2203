"""What a set of faces looks like: counts, sizes and pictures of kept and rejected faces on one page."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image

from data.faces.files import FaceFiles
from evaluation.reports.charts import Curve
from evaluation.reports.pictures import Picture, picture_grid, write_png
from evaluation.reports.report import Report
from photographs.faces.alignment import Pixels, align, square_of
from photographs.preparation.manifest import PhotoLine, WrittenFaces, counts, summary_lines
from photographs.preparation.selection import OPTIONS
from system.atomic_file import write_atomically
from system.wording import counted

PAGE_NAME, COUNTS_NAME, CONTACT_SHEET_NAME = "summary.html", "summary.json", "contact_sheet.png"
_COLUMNS, _ROWS, _CELL_PIXELS = 16, 10, 96
_SIZES = 24
"""Bars of the histogram of sizes."""
_MOST_PROBLEMS = 50
"""Photographs named on the page."""
_Item = TypeVar("_Item")


def write_summary(
    written: WrittenFaces, photos: FaceFiles, lines: Sequence[PhotoLine], settings: Mapping[str, Any]
) -> Path:
    """Writes counts as JSON, the contact sheet where faces were kept, and a page that shows both, into a set's folder.

    Faces that were rejected are cut out of the photographs again to be shown; `lines` say what became of each
    photograph, in their order. Gives the path of the page.
    """
    report, numbers = Report("Faces out of photographs"), counts(lines)
    write_atomically(written.folder / COUNTS_NAME, json.dumps({"settings": settings, **numbers}, indent=2) + "\n")
    report.add_list(summary_lines(numbers))
    kept = [face.kept_as for line in lines for face in line.kept()]
    sheet = contact_sheet(written, kept)
    if sheet is None:
        (written.folder / CONTACT_SHEET_NAME).unlink(missing_ok=True)
    else:
        write_png(written.folder / CONTACT_SHEET_NAME, sheet)
        report.add_heading("Kept")
        shown = f"{min(len(kept), _COLUMNS * _ROWS)} of {counted(len(kept), 'face')}"
        report.add_picture(sheet, f"{shown} kept, in the order of their names")
    _add_sizes(report, lines, settings)
    _add_rejected(report, photos, lines, settings)
    _add_problems(report, [(line.source, line.problem) for line in lines if line.problem])
    report.add_heading("Settings")
    report.add_table(("option", "value"), list(settings.items()))
    return report.write(written.folder / PAGE_NAME)


def contact_sheet(written: WrittenFaces, kept: Sequence[str]) -> Picture | None:
    """Small pictures of kept faces, evenly chosen where there are more than 160; None where there are none."""
    chosen = _evenly(kept, _COLUMNS * _ROWS)
    faces = []
    for name in chosen:
        with Image.open(io.BytesIO(written.read(name))) as face:
            faces.append(np.asarray(face.resize((_CELL_PIXELS, _CELL_PIXELS), Image.Resampling.LANCZOS)))
    return _grid(faces) if faces else None


def _add_sizes(report: Report, lines: Sequence[PhotoLine], settings: Mapping[str, Any]) -> None:
    """Histograms of the sizes that kept and rejected faces have in their photographs."""
    faces = [face for line in lines for face in line.faces]
    if not faces:
        return
    largest_side = 4 * settings["resolution"]
    edges = np.linspace(0, largest_side, _SIZES + 1)
    curves = []
    for label, is_kept in (("kept", True), ("rejected", False)):
        sides = [min(face.native_pixels, largest_side) for face in faces if bool(face.kept_as) == is_kept]
        heights, _ = np.histogram(sides, edges)
        if sides:
            curves.append(Curve(label, np.repeat(edges, 2).tolist(), [0, *np.repeat(heights, 2).tolist(), 0]))
    report.add_heading("Sizes")
    note = f"Faces of {largest_side} pixels and more count there"
    report.add_curves(curves, "side of the face in its photograph, in pixels", "faces", note)


def _add_rejected(report: Report, photos: FaceFiles, lines: Sequence[PhotoLine], settings: Mapping[str, Any]) -> None:
    """How many faces were rejected for each reason, and some of them."""
    total = sum(len(line.faces) for line in lines)
    places = [(position, face) for position, line in enumerate(lines) for face in line.faces]
    rejected = {
        reason: [place for place in places if place[1].rejected.partition(":")[0] == reason] for reason in OPTIONS
    }
    report.add_heading("Rejected")
    report.add_table(
        ("reason", "faces", "share", "option"),
        [
            (
                reason,
                len(found),
                f"{len(found) / max(total, 1):.1%}",
                _option(OPTIONS[reason], settings[OPTIONS[reason]]),
            )
            for reason, found in rejected.items()
        ],
    )
    for reason, found in rejected.items():
        faces = []
        for position, face in _evenly(found, _COLUMNS):
            try:
                photo = np.asarray(photos.read(position))
            except ValueError:  # it has changed since
                continue
            faces.append(align(photo, square_of(np.array(face.points)), _CELL_PIXELS))
        if faces:
            report.add_picture(_grid(faces), f"{reason}: {len(faces)} of {len(found)}")


def _option(name: str, value: object) -> str:
    """An option as it is typed; a truth value is a flag."""
    return f"--{name} {value}" if not isinstance(value, bool) else f"--{name}" if value else f"only with --{name}"


def _add_problems(report: Report, problems: Sequence[tuple[str, str]]) -> None:
    """Photographs that could not be read."""
    if problems:
        report.add_heading("Photographs that could not be read")
        report.add_table(("photograph", "problem"), problems[:_MOST_PROBLEMS])
    if len(problems) > _MOST_PROBLEMS:
        report.add_paragraph(f"These are the first of {len(problems)}; the manifest names all.")


def _evenly(items: Sequence[_Item], max_items: int) -> list[_Item]:
    """At most so many of them, evenly chosen, in their order."""
    return list(items) if len(items) <= max_items else [items[i * len(items) // max_items] for i in range(max_items)]


def _grid(faces: Sequence[Pixels]) -> Picture:
    return picture_grid(torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2), _COLUMNS)
