"""Values that may not be left out: jsonargparse lets a null through where a nested dataclass needs a value."""

from collections.abc import Mapping
from dataclasses import is_dataclass
from types import NoneType
from typing import Any, get_args, get_type_hints


def null_problems(owner: type, values: Mapping[str, Any], name: str) -> list[str]:
    """Lists entries that are null although their type allows none.

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
            if is_dataclass(kind) and isinstance(kind, type) and isinstance(value, Mapping):
                problems += null_problems(kind, value, f"{name}.{key}")
    return problems
