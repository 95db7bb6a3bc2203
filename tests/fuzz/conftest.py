"""Random hostile input: a short repeatable selection by default, thousands with `--hypothesis-profile thorough`.

    python -m pytest tests/fuzz --hypothesis-profile thorough

prints how many inputs were tried and how they ended.
"""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

settings.register_profile(
    "quick", max_examples=60, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
settings.register_profile(
    "thorough", max_examples=20_000, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
settings.load_profile("quick")

TALLY: Counter[str] = Counter()
Damage = Callable[[st.DataObject, bytes], bytes]


@pytest.fixture(scope="session")
def tally() -> Counter[str]:
    """Counts inputs by kind and outcome."""
    return TALLY


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says what was tried."""
    if TALLY and settings.default is not None and settings.default.max_examples > 1000:
        terminalreporter.section("hostile inputs")
        for name, number in sorted(TALLY.items()):
            terminalreporter.write_line(f"{number:>8,} {name}")


EDITS = ("overwrite", "insert", "delete", "repeat", "cut", "flip", "number")
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@pytest.fixture(scope="session")
def damage() -> Damage:
    """Gives a file with up to eight random edits, most of them at its beginning or its end, where the headers are."""

    def edit(data: st.DataObject, content: bytes) -> bytes:
        changed = bytearray(content)
        for kind in data.draw(st.lists(st.sampled_from(EDITS), min_size=1, max_size=8)):
            length = len(changed)
            near = data.draw(st.sampled_from((min(64, length), length)))
            place = data.draw(st.integers(0, near))
            place = place if data.draw(st.booleans()) else length - place
            if kind == "overwrite":
                piece = data.draw(st.binary(min_size=1, max_size=8))
                changed[place : place + len(piece)] = piece
            elif kind == "insert":
                changed[place:place] = data.draw(st.binary(min_size=1, max_size=8))
            elif kind == "delete":
                del changed[place : place + data.draw(st.integers(1, 32))]
            elif kind == "repeat":
                changed[place:place] = changed[place : place + 64] * data.draw(st.integers(1, 4))
            elif kind == "cut":
                del changed[place:]
            elif kind == "flip" and place < length:
                changed[place] ^= 1 << data.draw(st.integers(0, 7))
            elif kind == "number":
                order = data.draw(st.sampled_from(("little", "big")))
                changed[place : place + 4] = data.draw(st.sampled_from(NUMBERS)).to_bytes(4, order)
        return bytes(changed)

    return edit
