"""Nulls and misplaced values in nested settings are named before a constructor meets them."""

from dataclasses import dataclass, field

from system.plain_yaml import value_problems


@dataclass(frozen=True)
class Inner:
    number: int = 1
    name: str | None = None


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    second: Inner | None = None
    anything: object = None


class Model:
    def __init__(self, outer: Outer, rate: float = 1.0, start: str | None = None) -> None: ...


def test_values_that_are_all_there_have_no_problem() -> None:
    values = {"outer": {"inner": {"number": 2, "name": None}, "second": None}, "rate": 2.0, "start": None}
    assert value_problems(Model, values, "model") == []
    assert value_problems(Model, {"outer": Outer()}, "model") == []


def test_nulls_and_values_in_the_place_of_groups_are_named_at_any_depth() -> None:
    values = {"outer": {"inner": {"number": None}, "second": [1]}, "rate": None}
    assert value_problems(Model, values, "model") == [
        "model.outer.inner.number must have a value, got null",
        "model.outer.second must hold keys and values, got '[1]'",
        "model.rate must have a value, got null",
    ]
    assert value_problems(Model, {"outer": "text"}, "model") == ["model.outer must hold keys and values, got 'text'"]
