"""Resolved settings as they may be published, and what differs among the variants."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from studies.records import StageRecord
from train.run.record import flat_settings

_OF_MACHINE_OR_SEED = ("run.folder", "run.wandb", "run.tensorboard", "run.overwrite", "run.seed",
                       "data.faces", "data.validation_faces", "data.num_workers",
                       "data.cache_mebibytes")  # fmt: skip
"""Beginnings of names that may differ without one training being another; faces are told by their fingerprint."""
_START = "model.init_args.start"
ABSENT = "–"


def public_config(config: Any) -> Any:
    """A configuration without folders of the machine: of every path only its last name, of a checkpoint its run too."""
    if isinstance(config, Mapping):
        return {key: public_config(value) for key, value in config.items()}
    if isinstance(config, list):
        return [public_config(value) for value in config]
    return _last_name(config) if isinstance(config, str) and "/" in config else config


def differing_settings(records: Mapping[str, Mapping[str, StageRecord]]) -> list[list[str]]:
    """Settings that are not the same in all variants.

    Args:
        records: Name of the variant to the stages of its first member.

    Returns:
        Rows of stage and dotted name, then one value per variant.
    """
    flat = {variant: _flat_stages(stages) for variant, stages in records.items()}
    names = dict.fromkeys(name for settings in flat.values() for name in settings)
    rows = []
    for name in names:
        values = [_text(settings.get(name, ABSENT)) for settings in flat.values()]
        if len(set(values)) > 1:
            rows.append([name, *values])
    return rows


def differences_within(members: Mapping[str, Mapping[str, StageRecord]]) -> list[str]:
    """Names of settings other than the seed that differ among the members of one variant."""
    flat = [_flat_stages(stages, with_start=False) for stages in members.values()]
    names = dict.fromkeys(name for settings in flat for name in settings)
    return [name for name in names if len({_text(settings.get(name, ABSENT)) for settings in flat}) > 1]


def _flat_stages(stages: Mapping[str, StageRecord], with_start: bool = True) -> dict[str, Any]:
    return {
        f"{stage}: {name}": value
        for stage, record in stages.items()
        for name, value in flat_settings(public_config(record.config)).items()
        if not name.startswith(_OF_MACHINE_OR_SEED) and (with_start or name != _START)
    }


def _last_name(path: str) -> str:
    parts = PurePath(path).parts
    has_run = len(parts) > 2 and parts[-2] == "checkpoints"
    return f"{parts[-3]}/{parts[-1]}" if has_run else PurePath(path).name


def _text(value: Any) -> str:
    return "none" if value is None else str(value)
