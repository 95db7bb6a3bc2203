"""Curves from the CSV files of a run."""

import csv
from collections.abc import Sequence
from pathlib import Path

from evaluation.reports.charts import Curve


def run_curves(path: Path, names: Sequence[str]) -> list[Curve]:
    """Reads columns over images seen.

    Args:
        path: train.csv or validation.csv of a run.
        names: Columns; those that the file does not have or that are empty are left out.

    Returns:
        One curve per column, points without a value left out.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it has none of the columns.
    """
    curves = columns_of(path, names)
    if not curves:
        raise ValueError(f"{path} has none of the columns {', '.join(names)}; was the run shorter than its log rhythm?")
    return curves


def columns_of(path: Path, names: Sequence[str]) -> list[Curve]:
    """Like `run_curves`, but the list may be empty."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    curves = []
    for name in names:
        points = [(float(row["images_seen"]), float(row[name])) for row in rows if row.get(name)]
        if points:
            curves.append(Curve(name, [x for x, _ in points], [y for _, y in points]))
    return curves
