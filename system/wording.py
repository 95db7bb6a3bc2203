"""The words of messages: numbers with their nouns, and text of elsewhere that keeps to its line."""


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
