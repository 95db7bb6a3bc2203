"""Which file of one set belongs to which of another, by their names."""

import os
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from data.faces.files import FaceFiles
from system.wording import printable

PLACE = "{}"
"""What stands in a template for the part of a name that both files share."""


def match_degraded(
    degraded: FaceFiles, target: FaceFiles, names: Sequence[str] = (), may_be_more: bool = False
) -> FaceFiles:
    """Finds the degraded version of every face.

    Names are compared without their suffix and in Unicode's composed form (NFC): a file system that stores é as two
    characters (macOS) and one that stores it as one (Linux) name the same face. Where that leaves a face alone, the
    folders that all names of a set begin with (as in a tar of one folder) and differences of case do not count.

    Args:
        degraded: Degraded versions.
        target: The faces.
        names: How file names are made of what both share: none for equal names, one template such as `{}x4` or `{}_lq`
            for those of the degraded versions, a second one such as `{}_hq` for those of the faces.
        may_be_more: Whether degraded versions without a face are passed over.

    Returns:
        The degraded versions in the order of the faces.

    Raises:
        ValueError: A template is none, two files have one name, or a face has no degraded version; names them.
    """
    templates = _templates(names)
    places = [_places(faces, template) for faces, template in zip((degraded, target), templates, strict=True)]
    collisions = ""
    if _is_alone(places, may_be_more):
        loose = [_below_shared_folder(one) for one in places]
        if _is_alone(loose, may_be_more):
            collisions = "".join(_collision(*one) for one in zip((degraded, target), loose, strict=True))
            loose = [{stem.casefold(): index for stem, index in one.items()} for one in loose]
        if not collisions and not _is_alone(loose, may_be_more):
            places = loose
    without_degraded = sorted(places[1].keys() - places[0].keys())
    without_target = [] if may_be_more else sorted(places[0].keys() - places[1].keys())
    if without_degraded or without_target:
        raise ValueError(
            f"degraded and target images must have the same names: without target {_some(without_target)}; without "
            f"degraded image {_some(without_degraded)}; {collisions}{_advice(degraded, target)}"
        )
    return degraded.choose([places[0][stem] for stem in places[1]])


def _is_alone(places: Sequence[dict[str, int]], may_be_more: bool) -> bool:
    """Whether a face has no degraded version, or one has no face and may not be more."""
    degraded, target = (one.keys() for one in places)
    return bool(target - degraded or (degraded - target and not may_be_more))


def _below_shared_folder(places: dict[str, int]) -> dict[str, int]:
    """The same without the folders that all share."""
    shared = os.path.commonpath([os.path.dirname(stem) for stem in places]) or "."
    return {os.path.relpath(stem, shared): index for stem, index in places.items()}


def _collision(faces: FaceFiles, places: Mapping[str, int]) -> str:
    """Says which two names of a set differ in case alone; empty where none do."""
    seen: dict[str, int] = {}
    for stem, index in places.items():
        other = seen.setdefault(stem.casefold(), index)
        if other != index:
            names = f"{printable(faces.names[other])} and {printable(faces.names[index])}"
            return f"in {faces.path} only case tells {names} apart, so it has to be equal; "
    return ""


def _templates(names: Sequence[str]) -> tuple[str, str]:
    if len(names) > 2 or any(name.count(PLACE) != 1 for name in names):
        raise ValueError(
            f"names must be at most two templates that hold {PLACE} once, for degraded and for target images, such as "
            f"'{{}}x4' or '{{}}_lq' '{{}}_hq', got {' '.join(names)}"
        )
    degraded, target = (*names, PLACE, PLACE)[:2]
    return degraded, target


def _places(faces: FaceFiles, template: str) -> dict[str, int]:
    """Positions by what stands in the place of the template."""
    before, after = (unicodedata.normalize("NFC", part) for part in template.split(PLACE))
    places: dict[str, int] = {}
    for index, name in enumerate(faces.names):
        path = PurePosixPath(unicodedata.normalize("NFC", name)).with_suffix("")
        shared = path.name
        if not (shared.startswith(before) and shared.endswith(after) and len(shared) >= len(before) + len(after)):
            raise ValueError(
                f"names in {faces.path} must be like {template} without their suffix, got {printable(name)}; correct "
                "the template or rename the file"
            )
        stem = str(path.with_name(shared[len(before) : len(shared) - len(after)] or PLACE))
        if stem in places:
            raise ValueError(
                f"names without suffix must be unique in {faces.path}, {printable(faces.names[places[stem]])} and "
                f"{printable(name)} look the same; rename one of them"
            )
        places[stem] = index
    return places


def _advice(degraded: FaceFiles, target: FaceFiles) -> str:
    """A template that would make the first names match, where one is to be seen."""
    first, second = (_stem(faces.names[0]) for faces in (degraded, target))
    length = len(os.path.commonprefix([first, second]).rstrip("_-. "))  # noqa: RUF071 - letter by letter it is
    ends = [stem[length:] for stem in (first, second)]
    fits = all(
        _stem(name).endswith(end) for faces, end in zip((degraded, target), ends, strict=True) for name in faces.names
    )
    if not length or not any(ends) or not fits:
        return "rename or remove them"
    templates = [f"'{PLACE}{end}'" for end in (ends if ends[1] else ends[:1])]
    return f"rename or remove them, or say how the names differ, which looks like {' '.join(templates)}"


def _stem(name: str) -> str:
    return unicodedata.normalize("NFC", PurePosixPath(name).stem)


def _some(names: list[str]) -> str:
    """Three names and how many there are."""
    if not names:
        return "none"
    return f"{', '.join(map(printable, names[:3]))}{' …' if len(names) > 3 else ''} ({len(names)})"
