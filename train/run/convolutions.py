"""Which formulation each convolution of a run is computed in on a CPU: measured once, kept in the run's record."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.strategies import Strategy
from torch import Tensor

from models.operators.formulations import Formulation, choosing, fastest
from train.run.record import write_record
from train.run.settings import MEASURED, WHOLE, RunSettings

RECORD, CHOICES = "run.json", "convolutions"


@contextmanager
def kept_formulations(settings: RunSettings, strategy: Strategy) -> Iterator[None]:
    """Inside, convolutions are computed in the formulations of the run's record, which grows by what is measured.

    The first process of a run decides for all, so that all sum in the same order. A continued run keeps to its record,
    also on another machine: it stays the same run, bit for bit. The folder's record is written already.

    Raises:
        ValueError: `convolutions` names a file that is no record of a run.
    """
    if settings.convolutions == WHOLE:
        yield
        return
    record = settings.folder / RECORD
    others = {} if settings.convolutions == MEASURED else _choices_of(Path(settings.convolutions))

    def decide(name: str, candidates: Mapping[Formulation, Callable[[], Tensor]]) -> Formulation:
        choice: Formulation = "whole"
        if strategy.is_global_zero:
            own = _choices_of(record)
            kept = own.get(name, others.get(name))
            matching = [formulation for formulation in candidates if formulation == kept]
            choice = matching[0] if matching else fastest(candidates)
            if own.get(name) != choice:
                write_record(settings.folder, {**json.loads(record.read_text()), CHOICES: {**own, name: choice}})
        return strategy.broadcast(choice)

    with choosing(decide):
        yield


def _choices_of(record: Path) -> dict[str, Any]:
    try:
        choices: dict[str, Any] = json.loads(record.read_text()).get(CHOICES, {})
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(
            f"run.convolutions must be {MEASURED}, {WHOLE} or the {RECORD} of a run, got {record} ({error}); change it"
        ) from error
    return choices
