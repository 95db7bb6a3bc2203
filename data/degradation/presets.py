"""Degradation presets: YAML files whose keys are the fields of `DegradationRanges`."""

from argparse import ArgumentError
from dataclasses import fields
from pathlib import Path

from jsonargparse import ArgumentParser

from data.degradation.ranges import BlurRanges, ColorRanges, DegradationRanges, MaskRanges, RoundRanges
from system.plain_yaml import read_yaml, value_problems

PRESETS_FOLDER = Path(__file__).resolve().parents[2] / "configs" / "degradations"

_GROUPS: dict[type, dict[str, type]] = {
    DegradationRanges: {"first": RoundRanges, "second": RoundRanges, "color": ColorRanges, "mask": MaskRanges},
    RoundRanges: {"blur": BlurRanges},
}


def preset_names() -> list[str]:
    """Returns the names that `load_preset` knows, sorted."""
    return sorted(path.stem for path in PRESETS_FOLDER.glob("*.yaml"))


def load_preset(name_or_path: str) -> DegradationRanges:
    """Reads a degradation preset.

    Args:
        name_or_path: A name such as "released" (a file of configs/degradations), or the path of a YAML file with the
            same keys; keys that are left out keep the defaults of `DegradationRanges`.

    Returns:
        The ranges, checked.

    Raises:
        FileNotFoundError: If there is neither such a preset nor such a file.
        ValueError: If the file is not YAML, has unknown keys, wrong types or ranges that contradict each other.
    """
    path = PRESETS_FOLDER / f"{name_or_path}.yaml"
    if not path.is_file():
        path = Path(name_or_path).expanduser()
    if not path.is_file():
        known = ", ".join(preset_names())
        raise FileNotFoundError(f"no degradation preset or YAML file named {name_or_path}; the presets are {known}")
    values = read_yaml(path)
    problems = _key_problems(values, DegradationRanges, "preset")
    if not problems and isinstance(values, dict):
        problems = value_problems(DegradationRanges, values, "preset")
    if problems:
        raise ValueError(f"{path}: {'; '.join(problems)}")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("degradation", type=DegradationRanges)
    try:
        parsed = parser.instantiate(parser.parse_object({"degradation": values}))
    except (ArgumentError, ValueError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error
    return parsed.degradation


def _key_problems(values: object, group: type, name: str) -> list[str]:
    """Lists unknown keys and values in the place of groups, some of which jsonargparse passes over in silence."""
    if not isinstance(values, dict):
        return [f"{name} must hold keys and values, got {values!r}"]
    known = [one.name for one in fields(group)]
    problems = [f"{name} has no key {key}, only {', '.join(known)}" for key in values if key not in known]
    for key, inner in _GROUPS.get(group, {}).items():
        if key in values and not (key == "second" and values[key] is None):
            problems += _key_problems(values[key], inner, f"{name}.{key}")
    return problems
