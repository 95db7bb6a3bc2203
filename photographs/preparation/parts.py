"""Which photographs are trained on and which are held out: nobody is in both."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

TRAIN, VAL = "train", "val"


def people_of(names: Sequence[str]) -> list[str]:
    """Who is on each photograph, as far as names tell.

    Args:
        names: Of all photographs, with `/` between their parts.

    Returns:
        The folder in which each lies; the names themselves where all lie in one folder.
    """
    folders = [str(PurePosixPath(name).parent) for name in names]
    return folders if len(set(folders)) > 1 else list(names)


def parts_of(people: Sequence[str], val_share: float, known: Mapping[str, str]) -> dict[str, str]:
    """Divides people by the hashes of their names.

    Args:
        people: May repeat.
        val_share: Share of the people that is held out, [0, 1); rounded, at least one of two or more.
        known: Parts that people got before, which they keep.

    Returns:
        `train` or `val` for each.
    """
    ranked = sorted(set(people), key=lambda name: hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest())
    number = round(val_share * len(ranked))
    if val_share > 0 and len(ranked) > 1:
        number = max(1, number)
    return {name: known.get(name, VAL if index < number else TRAIN) for index, name in enumerate(ranked)}
