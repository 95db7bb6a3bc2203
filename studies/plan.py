"""The runs that answer a study's question: who starts from whom, and which are the same."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from data.faces.files import fingerprint
from inference.restorers import file_digest
from models.files.run_folder import checkpoint_path, images_of, latest_checkpoint
from studies.records import run_fingerprint
from studies.request import StudyFaces
from studies.study import Study, StudyStage, StudyVariant
from train.command import resolve
from train.run.record import flat_settings
from train.run.settings import has_all_images

PRIOR, RESTORATION = "prior", "restoration"
RHYTHMS = ("log_every_images", "validate_every_images", "checkpoint_every_images")
LEAST_POINTS = 6
"""Rows of a run's tables, so that its curves say something whatever the budget."""


@dataclass(frozen=True)
class Conditions:
    """What a study does not fix: photographs, seeds, folder, options of the machine."""

    faces: StudyFaces
    """For training, validation and the report."""
    seeds: tuple[int, ...]
    folder: Path
    """Folder of all studies; runs that several studies need are done once."""
    prior: Path | None = None
    """A finished prior in place of those that need no overlay of their own."""
    options: tuple[str, ...] = ()
    """More arguments of `python -m train fit`: precision, workers, tracking."""

    def pair_options(self) -> list[str]:
        """Arguments of stage 2 for stored degraded versions."""
        given = {"degraded": self.faces.degraded, "validation_degraded": self.faces.validation_degraded}
        words = [word for name, path in given.items() if path is not None for word in (f"--data.{name}", str(path))]
        return [*words, "--data.names", json.dumps(self.faces.names)] if words and self.faces.names else words

    def fingerprints(self, stage: str) -> dict[str, str]:
        """What identifies the photographs of a stage."""
        sets: dict[str, Path | None] = {
            "fingerprint": self.faces.faces,
            "validation_fingerprint": self.faces.validation_faces,
        }
        if stage == RESTORATION:
            sets |= {"degraded": self.faces.degraded, "validation_degraded": self.faces.validation_degraded}
        return {name: fingerprint(self.faces.pictures.open(path)) for name, path in sets.items() if path is not None}


@dataclass(frozen=True)
class PlannedRun:
    """A run of one stage."""

    stage: str
    seed: int
    arguments: tuple[str, ...]
    """What follows `python -m train fit`, but for start and folder."""
    total_images: int
    batch_size: int
    fingerprint: str
    """Checksum over the resolved configuration and the photographs."""
    folder: Path
    start: "PlannedRun | Path | None" = None
    """What a run of stage 2 starts from: a run or a file."""

    @property
    def name(self) -> str:
        """The folder's name, by which people know the run."""
        return self.folder.name

    @property
    def checkpoint(self) -> Path | None:
        """The latest checkpoint of the run, None if there is none."""
        return latest_checkpoint(self.folder)

    @property
    def images_seen(self) -> int:
        """Images seen up to the latest checkpoint, 0 without one."""
        checkpoint = self.checkpoint
        return 0 if checkpoint is None else images_of(checkpoint)

    @property
    def is_complete(self) -> bool:
        """Whether all images were seen."""
        return has_all_images(self.images_seen, self.batch_size, self.total_images)

    @property
    def log(self) -> Path:
        """What the run prints."""
        return self.folder.with_suffix(".log")

    def command(self) -> list[str]:
        """Arguments of `python`; a start that is not finished yet is named by the checkpoint that it will end with."""
        words = ["-m", "train", "fit", *self.arguments]
        start = self.start
        if isinstance(start, PlannedRun):
            last = start.total_images // start.batch_size * start.batch_size
            start = start.checkpoint if start.is_complete else checkpoint_path(start.folder / "checkpoints", last)
        if start is not None:
            words += ["--model.init_args.start", str(start)]
        return [*words, "--run.folder", str(self.folder)]


@dataclass(frozen=True)
class PlannedMember:
    """One variant with one seed."""

    variant: str
    seed: int
    restoration: PlannedRun

    @property
    def runs(self) -> tuple[PlannedRun, ...]:
        """Those it needs, in order."""
        start = self.restoration.start
        return (start, self.restoration) if isinstance(start, PlannedRun) else (self.restoration,)


def plan_members(study: Study, conditions: Conditions, variants: Sequence[str] = ()) -> list[PlannedMember]:
    """Plans a study, of all variants unless some are named; seeds on the outside, so that a study that is stopped has
    compared all. Raises ValueError, with the name of the variant, where a config or option is wrong."""
    planner = _Planner(study, conditions)
    names = variants or tuple(study.variants)
    unknown = set(names) - set(study.variants)
    if unknown:
        raise ValueError(f"the study has the variants {', '.join(study.variants)}, got {', '.join(sorted(unknown))}")
    return [planner.member(name, seed) for seed in conditions.seeds for name in names]


def all_runs(members: Sequence[PlannedMember]) -> list[PlannedRun]:
    """Every run once, those of one fingerprint being one, in an order in which each finds its start done."""
    return list({run.fingerprint: run for member in members for run in member.runs}.values())


class _Planner:
    """Resolves configurations, each once."""

    def __init__(self, study: Study, conditions: Conditions) -> None:
        self.study, self.conditions = study, conditions
        self.data = {stage: conditions.fingerprints(stage) for stage in (PRIOR, RESTORATION)}
        self._resolved: dict[tuple[str, ...], dict[str, Any]] = {}
        self._digest_of = cache(file_digest)  # a prior may have gigabytes, and every variant asks

    def member(self, name: str, seed: int) -> PlannedMember:
        """Plans the runs of a variant."""
        variant = self.study.variants[name]
        try:
            start = self._start(variant, seed)
            stage = self.study.restoration
            images = max(round(stage.images * variant.restoration_share), 1)
            stage = replace(stage, configs=[*stage.configs, *variant.restoration_configs], images=images)
            run = self._run(RESTORATION, stage, [variant.both, variant.restoration], seed, name, start)
        except ValueError as error:
            raise ValueError(f"variant {name}: {error}") from error
        return PlannedMember(name, seed, run)

    def _start(self, variant: StudyVariant, seed: int) -> PlannedRun | Path | None:
        if variant.start == "nothing":
            return None
        if self.conditions.prior is not None and not variant.both and not variant.prior:
            return self.conditions.prior
        return self._run(PRIOR, self.study.prior, [variant.both, variant.prior], seed)

    def _run(
        self,
        name: str,
        stage: StudyStage,
        overlays: list[dict[str, Any]],
        seed: int,
        tag: str = PRIOR,
        start: PlannedRun | Path | None = None,
    ) -> PlannedRun:
        seed = seed if stage.seed is None else stage.seed
        conditions = self.conditions
        arguments = [word for config in stage.configs for word in ("--config", config)]
        arguments += ["--data.faces", str(conditions.faces.faces)]
        arguments += ["--data.validation_faces", str(conditions.faces.validation_faces)]
        arguments += conditions.faces.pictures.training_options()
        arguments += conditions.pair_options() if name == RESTORATION else []
        arguments += ["--run.seed", str(seed), "--run.total_images", str(stage.images)]
        arguments += ["--run.wandb_tags", f"[{tag},seed_{seed}]", *conditions.options]
        for overlay in (stage.overlay, *overlays):  # as options, the later ones winning: a command needs no other file
            options = flat_settings(overlay).items()
            arguments += [word for name, value in options for word in (f"--{name}", _text(value))]
        arguments += self._rhythms(arguments, stage.images)
        config = self._resolve(arguments)
        identity = run_fingerprint(config, self.data[name], self._start_fingerprint(start))
        batch_size = config["data"]["batch_size"]
        folder = conditions.folder / "runs" / f"{name}_seed{seed}_{identity[:10]}"
        return PlannedRun(name, seed, tuple(arguments), stage.images, batch_size, identity, folder, start)

    def _rhythms(self, arguments: list[str], total_images: int) -> list[str]:
        """Options that shorten the configuration's rhythms where they would leave few points of a curve."""
        config = self._resolve(arguments)
        longest = max(total_images // LEAST_POINTS, config["data"]["batch_size"])
        given = {word.partition("=")[0] for word in arguments}
        names = [name for name in RHYTHMS if config["run"][name] > longest and f"--run.{name}" not in given]
        return [word for name in names for word in (f"--run.{name}", str(longest))]

    def _resolve(self, arguments: list[str]) -> dict[str, Any]:
        key = tuple(arguments)
        if key not in self._resolved:
            self._resolved[key] = resolve(arguments)
        return self._resolved[key]

    def _start_fingerprint(self, start: PlannedRun | Path | None) -> str | None:
        if isinstance(start, Path):
            return self._digest_of(start)
        return None if start is None else start.fingerprint


def describe_plan(members: Sequence[PlannedMember]) -> list[str]:
    """Two lines per run: whether it is done and for whom, and its command."""
    lines = []
    for run in all_runs(members):
        users = [f"{m.variant} seed {m.seed}" for m in members if run.fingerprint in {r.fingerprint for r in m.runs}]
        state = "done" if run.is_complete else f"{run.images_seen:,} of {run.total_images:,} images"
        lines += [f"{run.name} ({', '.join(users)}): {state}", f"  python {shlex.join(run.command())}"]
    return lines


def _text(value: Any) -> str:
    """A value as an option whose text YAML reads as the same value."""
    is_plain = isinstance(value, str) and yaml.safe_load(value) == value
    return value if is_plain else json.dumps(value)
