"""Numbers with their nouns, as sentences have them."""


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural unless it is one: 1 face, 2,000 faces, 0 processes."""
    ending = "" if number == 1 else "es" if noun.endswith(("s", "x", "ch")) else "s"
    return f"{number:,} {noun}{ending}"
