"""YAML as plain values: files from outside can neither run code nor grow beyond their own size."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

import yaml
from jsonargparse import get_loader, set_loader

from system.wording import unwrapped

MAX_CHARACTERS = 200_000
MAX_DEPTH = 32

_NAME = re.compile(r"[A-Za-z0-9_]+([.-][A-Za-z0-9_]+)*")
_load_option = get_loader("yaml")


def read_yaml(path: Path) -> object:
    """Reads an existing YAML file as dictionaries, lists, numbers, texts and None; ValueError if it is not YAML, or
    more than plain values in a reasonable number."""
    if path.stat().st_size > 4 * MAX_CHARACTERS:
        raise ValueError(f"{path} must have at most {MAX_CHARACTERS} characters, it has {path.stat().st_size} bytes")
    try:
        text = path.read_text(encoding="utf-8")
        check_yaml(text)
        return yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:  # ValueError: a date or number out of range
        raise ValueError(f"{path} is not YAML: {unwrapped(error)}") from error


def check_yaml(text: str) -> None:
    """Refuses what a YAML loader would accept but should not see in a file or an option, by a yaml.YAMLError: what is
    no YAML, is too long or nested too deeply, repeats parts by reference (a few lines can stand for gigabytes), gives a
    key twice (the last would win in silence) or has keys that are no names."""
    if len(text) > MAX_CHARACTERS:
        raise yaml.YAMLError(f"it must have at most {MAX_CHARACTERS} characters, got {len(text)}")
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"references (*{event.anchor}) are not supported; write the values out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise yaml.YAMLError(f"it must be nested at most {MAX_DEPTH} deep")
    _check_keys(yaml.compose(text, Loader=yaml.SafeLoader))


def guard_options() -> None:
    """Makes jsonargparse check every text it takes as YAML, config files and options alike, with `check_yaml`."""
    set_loader("yaml", _load_checked, exceptions=(yaml.YAMLError, ValueError))


def _load_checked(text: str) -> object:
    check_yaml(text)
    return _load_option(text)


def _check_keys(node: yaml.Node | None) -> None:
    if isinstance(node, yaml.MappingNode):
        line = node.start_mark.line + 1
        for key, times in Counter(_name(key, line) for key, _ in node.value).items():
            if times > 1:
                raise yaml.YAMLError(f"the key {key!r} is given twice below line {line}")
    if isinstance(node, yaml.CollectionNode):
        for child in node.value:
            _check_keys(child[1] if isinstance(child, tuple) else child)


def _name(key: yaml.Node, line: int) -> str:
    if key.tag == "tag:yaml.org,2002:str" and _NAME.fullmatch(key.value):
        return str(key.value)
    raise yaml.YAMLError(f"keys must be names, got {str(key.value)[:40]!r} below line {line}")


def value_problems(owner: type, values: Mapping[str, Any], name: str) -> list[str]:
    """Lists entries, by the names of the arguments of a class's constructor, that are null although their type allows
    none, no group of values although one is needed, or unknown to a dataclass (jsonargparse passes over some of these
    in silence); dataclasses among them are mappings again, and messages begin with `name`."""
    hints = get_type_hints(owner if is_dataclass(owner) else owner.__init__)  # type: ignore[misc]
    problems = []
    for key, value in values.items():
        if is_dataclass(owner) and key not in hints:
            problems.append(f"{name} has no key {key}, only {', '.join(hints)}")
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
