"""Append-only tables of a run that fit the checkpoint they are continued from."""

import csv
from collections.abc import Mapping
from pathlib import Path

from system.atomic_file import replacing


class CsvLog:
    """A CSV file with the column `images_seen` first; columns may join later.

    Args:
        path: File to continue or to begin.
        images_seen: Progress of the run at its start; rows beyond it, of a run that got further before it was killed,
            are removed.
    """

    def __init__(self, path: Path, images_seen: int) -> None:
        self.path = path
        self._columns = ["images_seen"]
        rows: list[dict[str, str]] = []
        if path.is_file():
            with path.open(newline="") as file:
                reader = csv.DictReader(file)
                self._columns = list(reader.fieldnames or self._columns)
                rows = [row for row in reader if int(row["images_seen"]) <= images_seen]
        self._rewrite(rows)

    def append(self, images_seen: int, values: Mapping[str, float]) -> None:
        """Adds a row."""
        new = [name for name in values if name not in self._columns]
        if new:
            with self.path.open(newline="") as file:
                rows = list(csv.DictReader(file))
            self._columns += new
            self._rewrite(rows)
        with self.path.open("a", newline="") as file:
            row = {"images_seen": images_seen, **{name: f"{value:.6g}" for name, value in values.items()}}
            csv.DictWriter(file, self._columns).writerow(row)

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        with replacing(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(rows)


def read_table(path: Path) -> dict[int, dict[str, float]]:
    """The values of a table by images seen, in the order of the file; empty where there is no file."""
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {int(row.pop("images_seen")): {name: float(value) for name, value in row.items() if value} for row in rows}
