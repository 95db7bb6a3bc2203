"""What training cost: images, time and circumstances of every stage, from the runs' own records."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path, PurePath
from typing import Any

from data.degradation.presets import load_preset
from models.files.run_folder import NAME, checkpoints_in, images_of, read_config, read_record
from studies.comparison import Member
from train.reporting.tracking import read_table
from train.run.record import MAY_CHANGE, flat_settings


@dataclass(frozen=True)
class StageRecord:
    """One stage of one member."""

    run: Path
    config: dict[str, Any]
    data: dict[str, Any]
    sessions: list[dict[str, Any]]
    """One for each time that the run was begun or continued."""
    images_seen: int
    """Up to the checkpoint that was used."""
    seconds: float | None
    """How long training alone took, without validation and start-up; None where train.csv has no row."""
    seconds_note: str
    """What is not as measured in `seconds`; empty for an uninterrupted run that was logged to its end."""


def stage_records(member: Member) -> dict[str, StageRecord]:
    """Reads the records of all stages of a member; FileNotFoundError or ValueError where one is missing or damaged."""
    read = {stage: (read_config(run), read_record(run)) for stage, run in member.runs.items()}
    starts = [config.get("model", {}).get("init_args", {}).get("start") for config, _ in read.values()]
    used = [member.checkpoint, *(Path(start) for start in starts if start)]
    return {stage: _stage_record(member.runs[stage], config, record, used) for stage, (config, record) in read.items()}


def _stage_record(run: Path, config: dict[str, Any], record: dict[str, Any], used: list[Path]) -> StageRecord:
    folder = (run / "checkpoints").resolve()
    own = [path for path in used if path.resolve().parent == folder and NAME.fullmatch(path.name)]
    rows = read_table(run / "train.csv")
    last = max([*rows, *(images_of(p) for p in checkpoints_in(folder))], default=0)
    images_seen = images_of(own[0]) if own else last
    seconds, note = training_seconds(rows, images_seen)
    if len(record["sessions"]) > 1:
        note = f"{len(record['sessions'])} sessions, work lost between them not counted" + (f"; {note}" if note else "")
    return StageRecord(run, config, record["data"], record["sessions"], images_seen, seconds, note)


def training_seconds(rows: Mapping[int, Mapping[str, float]], images_seen: int) -> tuple[float | None, str]:
    """Time up to an image from the speeds in train.csv, each of them since the row before it or since its session
    began: seconds, None without any row, and what of them was extrapolated."""
    seconds, before = 0.0, 0
    for images, row in rows.items():
        if images <= images_seen and row.get("speed/images_per_second"):
            seconds += (images - before) / row["speed/images_per_second"]
            before = images
    if not before:
        return None, ""
    rest = images_seen - before
    note = f"the last {rest:,} images at the mean speed of the others" if rest > 0 else ""
    return seconds * images_seen / before, note


DECIDED_ELSEWHERE = ("model.init_args.start", "model.init_args.degradation", "model.init_args.loss_weights.networks.")
"""Options whose value is a file: its content counts, or, for the networks of `networks`, their own checksums."""
LENGTH = "run.total_images"


def run_fingerprint(config: Mapping[str, Any], data: Mapping[str, str], start: str | None) -> str:
    """Identifies a run whatever the machine, the folders and the tracking, by its resolved options, the fingerprints of
    its photographs, and that of what stage 2 starts from (None for nothing and in stage 1): hexadecimal SHA-256, equal
    for equal runs. Precision counts, number of processes and threads do not."""
    options = flat_settings(dict(config))
    decides = {name: value for name, value in options.items() if not name.startswith((*MAY_CHANGE, *DECIDED_ELSEWHERE))}
    decides |= {name: options[name] for name in (LENGTH, "trainer.precision")}
    degradation = options.get("model.init_args.degradation")
    content = {
        "options": decides,
        "degradation": None if degradation is None else asdict(load_preset(degradation)),
        "data": dict(data),
        "start": start,
    }
    return sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


_OF_MACHINE_OR_SEED = ("run.folder", "run.wandb", "run.tensorboard", "run.overwrite", "run.seed",
                       "data.faces", "data.validation_faces", "data.degraded",
                       "data.validation_degraded", "data.real_faces", "data.num_workers",
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
    """Settings that are not the same in all variants, of which each has the stages of its first member: rows of stage
    and option in words, then one value per variant."""
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
        f"{stage}: {option_in_words(name)}": value
        for stage, record in stages.items()
        for name, value in flat_settings(public_config(record.config)).items()
        if not name.startswith(_OF_MACHINE_OR_SEED) and (with_start or name != _START)
    }


def option_in_words(name: str) -> str:
    """An option's dotted name as a person would say it, such as "model, architecture, noise mode"."""
    return ", ".join(part.replace("_", " ") for part in name.split(".") if part != "init_args")


def _last_name(path: str) -> str:
    parts = PurePath(path).parts
    has_run = len(parts) > 2 and parts[-2] == "checkpoints"
    return f"{parts[-3]}/{parts[-1]}" if has_run else PurePath(path).name


def _text(value: Any) -> str:
    return "none" if value is None else str(value)
