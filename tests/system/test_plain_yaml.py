"""YAML from outside: plain values, or one line that says what is wrong."""

from pathlib import Path

import pytest

from data.degradation.presets import load_preset
from system.plain_yaml import read_yaml

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))


def read(tmp_path: Path, text: str) -> object:
    path = tmp_path / "file.yaml"
    path.write_text(text, encoding="utf-8")
    return read_yaml(path)


def test_plain_values_are_read(tmp_path: Path) -> None:
    assert read(tmp_path, "a: [1, 2.5, null]\nb: {c: text, d: [true]}\n") == {
        "a": [1, 2.5, None],
        "b": {"c": "text", "d": [True]},
    }
    assert read(tmp_path, "") is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: !!python/object/apply:os.system ['touch executed']", "could not determine a constructor"),
        ("!!python/object/new:type {}", "could not determine a constructor"),
        ("!!python/name:os.system", "could not determine a constructor"),
        (BOMB, "references (*a0) are not supported"),
        ("[" * 5_000, "nested at most 32 deep"),
        ("{a: " * 33 + "1" + "}" * 33, "nested at most 32 deep"),
        ("a: 1\nb: {c: 1, c: 2}\n", "the key 'c' is given twice below line 2"),
        ("a: " + "x" * 200_000, "at most 200000 characters"),
        ("a: 2020-99-99", "month must be in 1..12"),
        ("a: " + "9" * 5_000, "integer string conversion"),
        ("a: {'': 1}", "keys must be names, got '' below line 1"),
        ("a: 1\n2: 3", "keys must be names, got '2' below line 1"),
        ("a b: 1", "keys must be names, got 'a b'"),
        ("? [1, 2]\n: 3", "keys must be names"),
        ("<<: {a: 1}", "keys must be names, got '<<'"),
        ("a: [1", "is not YAML"),
        ("--- 1\n--- 2\n", "is not YAML"),
    ],
    ids=lambda text: text[:20],
)
def test_anything_else_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for load in (lambda: read(tmp_path, text), lambda: load_preset(str(tmp_path / "file.yaml"))):
        with pytest.raises(ValueError) as raised:
            load()
        message = str(raised.value)
        assert message.startswith(f"{tmp_path / 'file.yaml'} is not YAML: ") and reason in message
        assert "\n" not in message and len(message) < 500
    assert not (tmp_path / "executed").exists()


def test_a_file_of_gigabytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.yaml").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(ValueError, match="at most 200000 characters, it has 1000000000000 bytes"):
        read_yaml(tmp_path / "huge.yaml")
