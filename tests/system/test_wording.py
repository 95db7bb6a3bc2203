"""The words of messages."""

import pytest

from system.wording import counted


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [
        (0, "core", "0 cores"),
        (1, "process", "1 process"),
        (2, "process", "2 processes"),
        (1, "held-out face", "1 held-out face"),
        (12_345, "held-out face", "12,345 held-out faces"),
        (2, "more suffix", "2 more suffixes"),
        (3, "photograph", "3 photographs"),
    ],
)
def test_a_noun_is_in_the_plural_unless_there_is_one(number: int, noun: str, words: str) -> None:
    assert counted(number, noun) == words
