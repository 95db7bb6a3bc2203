"""What a command did in an output folder: one JSON line for each photograph, so that the same command goes on."""

import json
from pathlib import Path
from typing import Any

from system.atomic_file import write_atomically


class Journal:
    """A file of JSON lines, the settings first, that is written as the work goes. Raises ValueError where the folder
    was made with other settings, or the file is damaged."""

    def __init__(self, file: Path, settings: dict[str, Any]) -> None:
        self.file = file
        self.entries: list[dict[str, Any]] = []
        """Of the commands before, in the order in which they were written."""
        lines = self._complete_lines()
        if not lines:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, json.dumps({"settings": settings}) + "\n")
            return
        before = lines[0].get("settings", {})
        changed = [f"{name} {before.get(name)}" for name in settings if before.get(name) != settings[name]]
        if changed:
            raise ValueError(
                f"{file.parent} was made with other settings ({', '.join(changed)}); use these or choose another output"
            )
        self.entries = lines[1:]

    def add(self, entry: dict[str, Any]) -> None:
        """Adds a photograph whose results are written."""
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def _complete_lines(self) -> list[dict[str, Any]]:
        """Reads the file; a last line left unfinished by a kill is cut off, and its photograph is done again."""
        if not self.file.is_file():
            return []
        content = self.file.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            write_atomically(self.file, whole)
        try:
            return [json.loads(line) for line in whole.splitlines()]
        except ValueError as error:
            raise ValueError(f"{self.file} is damaged ({error}); remove the folder or choose another output") from error
