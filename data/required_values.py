"""What jsonargparse lets through in nested dataclasses: nulls, and lists or texts in the place of a group of values."""

from collections.abc import Mapping
from dataclasses import is_dataclass
from types import NoneType
from typing import Any, get_args, get_type_hints


def value_problems(owner: type, values: Mapping[str, Any], name: str) -> list[str]:
    """Lists entries that are null although their type allows none, or no group of values although one is needed.

    Args:
        owner: Class whose constructor takes the values.
        values: By the names of its arguments; dataclasses among them are mappings again.
        name: Of the values, for the messages.

    Returns:
        One text for each, empty where all is well.
    """
    hints = get_type_hints(owner if is_dataclass(owner) else owner.__init__)  # type: ignore[misc]
    problems = []
    for key, value in values.items():
        kinds = get_args(hints.get(key)) or (hints.get(key, Any),)
        if value is None and NoneType not in kinds and Any not in kinds:
            problems.append(f"{name}.{key} must have a value, got null")
        for kind in kinds:
            if not is_dataclass(kind) or not isinstance(kind, type) or value is None or isinstance(value, kind):
                continue
            if isinstance(value, Mapping):
                problems += value_problems(kind, value, f"{name}.{key}")
            else:
                problems.append(f"{name}.{key} must hold keys and values, got {str(value)[:40]!r}")
    return problems
