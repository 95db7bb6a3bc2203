"""Answers a question by training its variants: python -m scripts.run_ablation STUDY --faces F --validation-faces V."""

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from filelock import FileLock

from studies.comparison import Comparison, Member, Variant
from studies.execution import Execution, Slot, share_machine
from studies.measurement import Measurer
from studies.plan import Conditions, PlannedMember, all_runs, describe_plan, plan_members
from studies.report.page import write_comparison
from studies.study import Study, read_study
from system import command_line, machine
from train.run.record import recorded

PROGRESS_SECONDS = 15.0


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.run_ablation",
        description="Trains the variants of a study (both stages, several seeds), measures them on the same faces and "
        "writes report.html, report.md and CSV. The same command continues; started several times on machines that "
        "share the folder (a SLURM array), the runs are divided. Runs that several studies need are done once.",
        epilog="Everything after -- goes to `python -m train fit`, such as: -- --trainer.precision 32-true",
    )
    add = parser.add_argument
    add("study", type=Path, help="YAML file, such as configs/ablations/noise_injection.yaml")
    add("--faces", type=Path, required=True, help="aligned faces for training")
    add("--validation-faces", type=Path, required=True, help="aligned faces of other people, for the report")
    add("--seeds", type=int, default=1, help="runs of each variant, with the seeds 0, 1, … (default: 1)")
    add("--variants", nargs="+", default=[], help="only these (default: all)")
    add("--output", type=Path, default=Path("runs/ablations"), help="folder of all studies (default: runs/ablations)")
    add("--at-once", type=int, default=1, help="runs side by side, each with its share of cores or GPUs (default: 1)")
    add("--prior", type=Path, help="finished prior instead of training those that no variant changes")
    add("--prior-config", nargs="+", help="instead of the study's configs of stage 1")
    add("--restoration-config", nargs="+", help="instead of the study's configs of stage 2")
    add("--prior-images", type=int, help="instead of the study's budget of stage 1")
    add("--restoration-images", type=int, help="instead of the study's budget of stage 2")
    add("--plan", action="store_true", help="print the runs and their commands, and end")
    add("--report-only", action="store_true", help="train nothing: report on what is finished")
    add("--without-photographs", action="store_true", help="leave degraded and target faces out of the report")
    own, options = split_arguments(sys.argv[1:])
    arguments = parser.parse_args(own)
    arguments.options = tuple(options)
    if arguments.seeds < 1:
        parser.error(f"--seeds must be at least 1, got {arguments.seeds}")
    return arguments


def main() -> None:
    """Carries the study out and writes its report."""
    arguments = parse_arguments()
    study = with_budget(read_study(arguments.study), arguments)
    conditions = Conditions(
        arguments.faces,
        arguments.validation_faces,
        tuple(range(arguments.seeds)),
        arguments.output,
        arguments.prior,
        (*precision_options(arguments), *tracking_options(arguments), *arguments.options),
    )
    members = plan_members(study, conditions, arguments.variants)
    if arguments.plan:
        print(describe_plan(members))
        return
    slots = share_machine(arguments.at_once)
    failed = {} if arguments.report_only else carry_out(members, slots)
    folder = arguments.output / arguments.study.stem
    measured = measure_members(members, arguments.validation_faces, study, arguments.output / "evaluations")
    with FileLock(arguments.output / f"{arguments.study.stem}.lock"):
        comparison = compare(study, members, measured, failed, arguments)
        report = write_comparison(comparison, folder, with_photographs=not arguments.without_photographs)
    say(f"report: {report}")
    if failed:
        names = ", ".join(run.name for run in all_runs(members) if run.fingerprint in failed)
        raise ValueError(f"{len(failed)} runs failed ({names}), see their logs; the same command tries them again")


def split_arguments(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """What comes before and after the first `--`."""
    index = words.index("--") if "--" in words else len(words)
    return list(words[:index]), list(words[index + 1 :])


def with_budget(study: Study, arguments: argparse.Namespace) -> Study:
    """The study with the configs and lengths of the command line."""
    prior, restoration = study.prior, study.restoration
    if arguments.prior_config:
        prior = replace(prior, configs=arguments.prior_config)
    if arguments.restoration_config:
        restoration = replace(restoration, configs=arguments.restoration_config)
    if arguments.prior_images is not None:
        prior = replace(prior, images=arguments.prior_images)
    if arguments.restoration_images is not None:
        restoration = replace(restoration, images=arguments.restoration_images)
    return replace(study, prior=prior, restoration=restoration)


def precision_options(arguments: argparse.Namespace) -> tuple[str, ...]:
    """One precision for all runs of a folder, whatever machines share it: that of its first run, else this machine's.

    Options of the command line come later, and win.
    """
    first = next(iter(sorted((arguments.output / "runs").glob("*/run.json"))), None)
    sessions = [] if first is None else recorded(first.parent)["sessions"]
    return ("--trainer.precision", sessions[0]["precision"] if sessions else machine.fastest_precision().name)


def tracking_options(arguments: argparse.Namespace) -> tuple[str, ...]:
    """The study is the group of its runs."""
    return ("--run.wandb_group", arguments.study.stem)


def carry_out(members: Sequence[PlannedMember], slots: Sequence[Slot]) -> dict[str, str]:
    """Trains what is missing; returns what failed. Ends the command where a signal came."""
    execution = Execution(all_runs(members), slots, say)
    execution.carry_out()
    if execution.stopped_by:
        sys.exit(128 + execution.stopped_by)
    return execution.failed


def measure_members(
    members: Sequence[PlannedMember], faces: Path, study: Study, folder: Path
) -> dict[PlannedMember, Member]:
    """Evaluates finished members where that was not done yet."""
    measured = {}
    finished = [member for member in members if member.restoration.is_complete]
    measurer = Measurer(faces, study.measurement, progress_lines())
    for index, member in enumerate(finished):
        run, checkpoint = member.restoration, member.restoration.checkpoint
        assert checkpoint is not None  # a finished run has written one
        say(f"evaluation {index + 1} of {len(finished)}: {member.variant} seed {member.seed}")
        own_folder = folder / run.name
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(own_folder.with_suffix(".lock")):
            evaluations = measurer.measure(checkpoint, own_folder)
        runs = {planned.stage: planned.folder for planned in member.runs}
        measured[member] = Member(f"seed {member.seed}", checkpoint, evaluations, runs)
    if not measured:
        raise ValueError("no variant is finished, so there is nothing to report; train first, or see the runs' logs")
    return measured


def progress_lines() -> Callable[[str, int, int], None]:
    """Prints how far an evaluation is, at most every `PROGRESS_SECONDS`."""
    said = time.monotonic()

    def tell(degradation: str, done: int, number: int) -> None:
        nonlocal said
        if time.monotonic() - said > PROGRESS_SECONDS:
            said = time.monotonic()
            say(f"{degradation}: {done:,} of {number:,} faces")

    return tell


def compare(
    study: Study,
    members: Sequence[PlannedMember],
    measured: dict[PlannedMember, Member],
    failed: dict[str, str],
    arguments: argparse.Namespace,
) -> Comparison:
    """What the report is about."""
    groups = {
        name: tuple(measured[m] for m in members if m.variant == name and m in measured) for name in study.variants
    }
    variants = tuple(Variant(name, study.variants[name].description, own) for name, own in groups.items() if own)
    names = [variant.name for variant in variants]
    missing = {
        f"{m.variant} seed {m.seed}": failed.get(m.restoration.fingerprint, "not finished")
        for m in members
        if m not in measured
    }
    budget = (
        f"Stage 1: {study.prior.images:,} images per run ({', '.join(study.prior.configs)}); stage 2: "
        f"{study.restoration.images:,} images per run ({', '.join(study.restoration.configs)})."
    )
    reference = study.reference if study.reference in names else names[0]
    title = arguments.study.stem.replace("_", " ")
    command = repeating_command(arguments)
    return Comparison(
        title,
        study.question,
        variants,
        reference,
        arguments.validation_faces,
        study.measurement,
        missing,
        command,
        notes=budget,
    )


def repeating_command(arguments: argparse.Namespace) -> str:
    """What repeats the study elsewhere; of folders of this machine only the last two names are published."""
    words: list[object] = ["python", "-m", "scripts.run_ablation", arguments.study]
    for name in ("faces", "validation_faces", "prior"):
        path = getattr(arguments, name)
        words += [] if path is None else [f"--{name.replace('_', '-')}", Path(*path.parts[-2:])]
    for name in ("prior_config", "prior_images", "restoration_config", "restoration_images", "variants"):
        value = getattr(arguments, name)
        values = value if isinstance(value, list) else [value]
        words += [f"--{name.replace('_', '-')}", *values] if value else []
    words += ["--seeds", arguments.seeds]
    return shlex.join(map(str, [*words, "--", *arguments.options] if arguments.options else words))


def say(text: str) -> None:
    """A line with the time."""
    print(f"{datetime.now():%H:%M:%S} {text}", flush=True)


if __name__ == "__main__":
    command_line.conclude(main)
