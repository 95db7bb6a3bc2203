"""A journal goes on where it was left, also after a kill in the middle of a line."""

from pathlib import Path

import pytest

from photographs.journal import Journal


def test_a_torn_last_line_is_cut_off_and_the_next_entry_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "out" / "journal.jsonl"
    Journal(file, {"size": 64}).add({"photo": "a"})
    with file.open("a") as torn:
        torn.write('{"photo": "b')
    again = Journal(file, {"size": 64})
    assert again.entries == [{"photo": "a"}]
    again.add({"photo": "c"})
    assert Journal(file, {"size": 64}).entries == [{"photo": "a"}, {"photo": "c"}]


def test_other_settings_and_damage_are_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "journal.jsonl"
    Journal(file, {"size": 64, "seed": 0})
    with pytest.raises(ValueError, match=r"made with other settings \(size 64\); use these or choose another output"):
        Journal(file, {"size": 128, "seed": 0})
    file.write_text('{"settings": {}}\nno json\n')
    with pytest.raises(ValueError, match=r"journal\.jsonl is damaged"):
        Journal(file, {})
