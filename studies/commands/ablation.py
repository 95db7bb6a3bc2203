"""A study from its file to its report."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from data.faces.files import Pictures
from models.files.run_folder import recorded
from studies.comparison import Comparison, Member, Variant
from studies.execution import Execution, Slot, share_machine
from studies.measurement import MEASURING, Measurer
from studies.plan import PRIOR, RHYTHMS, Conditions, PlannedMember, all_runs, describe_plan, plan_members
from studies.report.page import write_comparison
from studies.request import Budget, Request, StudyFaces
from studies.study import Study, read_study
from system import command_line, machine
from system.live_progress import live_progress
from system.wording import counted
from train.processes.strategy import OUT_OF_TIME_CODE

MOMENTS = ("warm_up_images", "decay_range_images", "adversarial_rise_images", *RHYTHMS)
"""Options that name images of a run: in a schedule that is to end with it, or between the points of its curves."""


def carry_out_study(request: Request) -> None:
    """Trains and measures what is missing, and writes the report. ValueError where the study, an option or a run is
    wrong; SystemExit after a signal (128 and its number) or after a run's run.max_minutes (75)."""
    study = with_faces(with_budget(read_study(request.study), request.budget), request.faces)
    output, runs = request.runs.output, request.runs
    group = ("--run.wandb_group", request.study.stem)  # the study is the group of its runs
    options = (*precision_options(output), *group, *request.options)
    conditions = Conditions(request.faces, tuple(range(runs.seeds)), output, request.budget.prior, options)
    with live_progress("planning the runs"):
        members = plan_members(study, conditions, list(runs.variants))
    if runs.plan:
        command_line.print_names(*describe_plan(members))
        return
    slots = share_machine(runs.at_once)
    failed = {} if request.report.report_only else carry_out(members, slots)
    measured = measure_members(members, request.faces.validation_faces, study, output / "evaluations")
    with FileLock(output / f"{request.study.stem}.lock"), live_progress("writing the report"):
        comparison = compare(study, members, measured, failed, request)
        report = write_comparison(
            comparison, output / request.study.stem, with_photographs=not request.report.without_photographs
        )
    print_line(f"report: {report}")
    if failed:
        names = ", ".join(run.name for run in all_runs(members) if run.fingerprint in failed)
        number = counted(len(failed), "run")
        raise ValueError(f"{number} failed ({names}): see the log; the same command tries again")


def with_budget(study: Study, budget: Budget) -> Study:
    """The study with the configs and lengths of the command line; what its variants do at a certain image of stage 2
    moves with the length."""
    prior, restoration, variants = study.prior, study.restoration, study.variants
    if budget.prior_config:
        prior = replace(prior, configs=list(budget.prior_config))
    if budget.restoration_config:
        restoration = replace(restoration, configs=list(budget.restoration_config))
    if budget.prior_images is not None:
        prior = replace(prior, images=budget.prior_images)
    if budget.restoration_images is not None:
        share = budget.restoration_images / restoration.images
        overlay = _moments_moved(restoration.overlay, share)
        restoration = replace(restoration, images=budget.restoration_images, overlay=overlay)
        variants = {
            name: replace(variant, restoration=_moments_moved(variant.restoration, share))
            for name, variant in variants.items()
        }
    return replace(study, prior=prior, restoration=restoration, variants=variants)


def _moments_moved(overlay: dict[str, Any], share: float) -> dict[str, Any]:
    """The overlay with the images at which something begins or ends multiplied."""
    moved = dict(overlay)
    for name, value in overlay.items():
        if isinstance(value, dict):
            moved[name] = _moments_moved(value, share)
        elif name in MOMENTS and value is not None:
            least = int(name in RHYTHMS)  # a rhythm of no image is none
            whole = round(value * share) if isinstance(value, int) else [round(image * share) for image in value]
            moved[name] = max(whole, least) if isinstance(whole, int) else whole
    return moved


def with_faces(study: Study, faces: StudyFaces) -> Study:
    """The study that measures on pictures read as they are trained on, among them the stored degraded versions of the
    validation faces."""
    measurement = replace(study.measurement, pictures=faces.pictures)
    if faces.validation_degraded is not None:
        degradations = (*measurement.degradations, str(faces.validation_degraded.resolve()))
        measurement = replace(measurement, degradations=degradations, names=faces.names)
    return replace(study, measurement=measurement)


def precision_options(output: Path) -> tuple[str, ...]:
    """One precision for all runs of a folder, whatever machines share it: that of its first run, else this machine's.

    Options of the command line come later, and win.
    """
    first = next(iter(sorted((output / "runs").glob("*/run.json"))), None)
    sessions = [] if first is None else recorded(first.parent)["sessions"]
    return ("--trainer.precision", sessions[0]["precision"] if sessions else machine.fastest_precision().name)


def carry_out(members: Sequence[PlannedMember], slots: Sequence[Slot]) -> dict[str, str]:
    """Trains what is missing; returns what failed. Ends the command where a signal came or a run's time is over."""
    execution = Execution(all_runs(members), slots, print_line)
    execution.carry_out()
    if execution.stopped_by:
        sys.exit(128 + execution.stopped_by)
    if execution.is_out_of_time:
        sys.exit(OUT_OF_TIME_CODE)
    return execution.failed


def measure_members(
    members: Sequence[PlannedMember], faces: Path, study: Study, folder: Path
) -> dict[PlannedMember, Member]:
    """Evaluates finished members where that was not done yet."""
    finished = {m: m.restoration.checkpoint for m in members if m.restoration.is_complete}
    networks = {folder / m.restoration.name: checkpoint for m, checkpoint in finished.items() if checkpoint is not None}
    measured = {}
    folder.mkdir(parents=True, exist_ok=True)
    with live_progress(MEASURING) as on_step:
        measurer = Measurer(faces, study.measurement, on_step)
        measurer.expect(networks)
        for index, member in enumerate(finished):
            print_line(f"evaluation {index + 1} of {len(finished)}: {member.variant} seed {member.seed}")
            own_folder = folder / member.restoration.name
            checkpoint = networks[own_folder]
            with FileLock(own_folder.with_suffix(".lock")):
                evaluations = measurer.measure(checkpoint, own_folder)
            runs = {planned.stage: planned.folder for planned in member.runs}
            measured[member] = Member(f"seed {member.seed}", checkpoint, runs, evaluations)
    if not measured:
        raise ValueError("no variant is finished, so there is nothing to report; train first, or see the runs' logs")
    return measured


def describe_priors(study: Study, members: Sequence[PlannedMember], given: Path | None) -> str:
    """Says where the priors of a study come from, one that was finished before included."""
    trained = f"{study.prior.images:,} images per run ({', '.join(study.prior.configs)})"
    if given is None:
        return trained
    is_trained = any(run.stage == PRIOR for run in all_runs(members))
    return f"{given.name}, trained before" + (f", and {trained} for variants that change it" if is_trained else "")


def compare(
    study: Study,
    members: Sequence[PlannedMember],
    measured: dict[PlannedMember, Member],
    failed: dict[str, str],
    request: Request,
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
        f"Stage 1: {describe_priors(study, members, request.budget.prior)}; stage 2: "
        f"{study.restoration.images:,} images per run ({', '.join(study.restoration.configs)})."
    )
    return Comparison(
        title=request.study.stem.replace("_", " "),
        question=study.question,
        variants=variants,
        reference=study.reference if study.reference in names else names[0],
        faces=request.faces.validation_faces,
        measurement=study.measurement,
        missing=missing,
        commands=repeating_command(request),
        notes=budget,
    )


def repeating_command(request: Request) -> str:
    """What repeats the study elsewhere; of folders of this machine only the last two names are published."""
    words: list[object] = ["python", "-m", "scripts.run_ablation", request.study]
    folders = {**vars(request.faces), "prior": request.budget.prior}
    names, pictures = folders.pop("names"), folders.pop("pictures")
    for name, path in folders.items():
        words += [] if path is None else [f"--{name}", Path(*path.parts[-2:])]
    for name, value in {**vars(request.budget), "variants": request.runs.variants}.items():
        values = value if isinstance(value, tuple) else [value]
        words += [f"--{name}", *values] if value and name not in folders else []
    words += ["--names", *names] if names else []
    words += [] if pictures == Pictures() else ["--background_color", pictures.background_color]
    words += ["--seeds", request.runs.seeds]
    return shlex.join(map(str, [*words, "--", *request.options] if request.options else words))


def print_line(text: str) -> None:
    """Prints a line after the time of day."""
    command_line.print_names(f"{datetime.now():%H:%M:%S} {text}")
