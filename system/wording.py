"""The words of messages: numbers with their nouns, settings, and text of elsewhere that keeps to its line."""

from collections.abc import Mapping
from typing import Any

_WORDS = {"l1": "L1", "decay_range_images": "between images", "last_share": "to a share of"}
"""Names of settings that say little by themselves."""


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural unless it is one: 1 face, 2,000 faces, 0 processes."""
    ending = "" if number == 1 else "es" if noun.endswith(("s", "x", "ch")) else "s"
    return f"{number:,} {noun}{ending}"


def unwrapped(text: object) -> str:
    """A text, or what an error says, without line breaks and spaces that stand twice."""
    return " ".join(str(text).split())


def printable(text: str) -> str:
    r"""Writes what would steer a terminal, or is no text that can be stored (bytes of a name that are no UTF-8 are lone
    surrogates), as an escape such as `\x1b`; line breaks and tabs stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def printable_line(text: str) -> str:
    """As `printable`, with line breaks and tabs as escapes too: a name keeps to its line."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def listed(values: Mapping[str, Any]) -> str:
    """Settings in one line, such as "adversarial 0.003, L1 1"; groups in brackets, what is null left out."""
    return ", ".join(
        f"{_WORDS.get(name, name.replace('_', ' '))} {_value_in_words(value)}"
        for name, value in values.items()
        if value is not None
    )


def _value_in_words(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"({listed(value)})"
    if isinstance(value, list | tuple):
        return " and ".join(map(_value_in_words, value)) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if type(value) is int and value >= 10_000 else str(value)
