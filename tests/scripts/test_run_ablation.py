"""Studies: the shipped ones can be planned, equal runs are one run, and a killed study goes on where it was."""

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import yaml

from data.faces.files import Pictures
from studies.commands.ablation import (
    carry_out,
    describe_priors,
    precision_options,
    repeating_command,
    with_budget,
    with_faces,
)
from studies.execution import Execution, share_machine
from studies.plan import RHYTHMS, Conditions, PlannedRun, all_runs, describe_plan, plan_members
from studies.request import Budget, ReportOptions, Request, Runs, StudyFaces
from studies.study import ROOT, Study, StudyStage, StudyVariant, read_study
from system.child_processes import ENDING_SIGNALS
from system.machine import Precision
from tests.fixtures.noting_child import NOTING_CHILD, noted, wait_for
from train.command import resolve

STUDIES = sorted((ROOT / "configs" / "ablations").glob("*.yaml"))
TINY = {"resolution": 32, "channel_multiplier": 1, "narrow": 1 / 32, "style_dim": 16, "num_mapping_layers": 2}
Plan = Callable[..., list[PlannedRun]]


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture
def conditions(tmp_path: Path, faces_folder: Path) -> Conditions:
    """Five drawn faces, two seeds."""
    faces = StudyFaces(faces_folder, faces_folder)
    return Conditions(faces, (0, 1), tmp_path / "studies", None, ("--run.wandb", "off"))


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Three variants of tiny networks: two share the prior, one has none."""
    files = {}
    for name, settings in (("prior", {"fid_num_images": 0}), ("restoration", {"degradation": "small"})):
        content = {
            "model": {
                "class_path": f"train.stages.{name}.{name.capitalize()}Training",
                "init_args": {"architecture": TINY, **settings},
            },
            "data": {"batch_size": 4, "num_workers": 0},
            "run": {"log_every_images": 4, "validate_every_images": 8, "checkpoint_every_images": 8},
        }
        files[name] = tmp_path / f"{name}.yaml"
        files[name].write_text(yaml.safe_dump(content))
    frozen = {"model": {"init_args": {"optimization": {"decoder_learning_rate": 0.0}}}}
    return Study(
        "What does the prior give?",
        "trained",
        StudyStage([str(files["prior"])], 8),
        StudyStage([str(files["restoration"])], 16),
        {
            "trained": StudyVariant("with it"),
            "frozen": StudyVariant("as it is", restoration=frozen),
            "none": StudyVariant("without", start="nothing"),
        },
    )


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_shipped_study_can_be_planned_by_the_command_at_its_head(path: Path, conditions: Conditions) -> None:
    assert f"python -m scripts.run_ablation configs/ablations/{path.name} --faces FACES" in path.read_text()
    study = read_study(path)
    members = plan_members(study, conditions)
    assert len(members) == 2 * len(study.variants)
    by_seed = [member.restoration.fingerprint for member in members if member.seed == 0]
    assert len(set(by_seed)) == len(study.variants)  # variants differ


def test_variants_that_agree_share_their_prior_and_seeds_do_not(study: Study, conditions: Conditions) -> None:
    members = plan_members(study, conditions)
    names = [run.name.rsplit("_", 1)[0] for run in all_runs(members)]
    assert sorted(names) == ["prior_seed0", "prior_seed1"] + ["restoration_seed0"] * 3 + ["restoration_seed1"] * 3
    assert members[0].restoration.start == members[1].restoration.start
    assert members[2].restoration.start is None
    shared = replace(study, prior=replace(study.prior, seed=5))
    assert len(all_runs(plan_members(shared, conditions))) == 7


def test_transparent_faces_are_trained_and_measured_on_over_one_color(study: Study, conditions: Conditions) -> None:
    usual = plan_members(study, conditions)[0].restoration
    faces = replace(conditions.faces, pictures=Pictures("white"))
    for run in all_runs(plan_members(study, replace(conditions, faces=faces))):
        place = run.arguments.index("--data.background")
        assert run.arguments[place + 1] == "white" and run.fingerprint != usual.fingerprint
    assert "--data.background" not in usual.arguments
    assert with_faces(study, faces).measurement.pictures == Pictures("white")
    request = Request(Path("study.yaml"), faces, Runs(), Budget(), ReportOptions())
    assert "--background_color white" in repeating_command(request)
    assert "background" not in repeating_command(replace(request, faces=conditions.faces))


def test_a_run_is_the_same_whatever_the_machine_and_another_with_any_other_setting(
    study: Study, conditions: Conditions, tmp_path: Path
) -> None:
    def identity(study: Study = study, conditions: Conditions = conditions) -> str:
        return plan_members(study, replace(conditions, seeds=(0,)))[0].restoration.fingerprint

    first = identity()
    moved = tmp_path / "moved"
    conditions.faces.faces.rename(moved)
    moved_conditions = replace(conditions, faces=StudyFaces(moved, moved), folder=tmp_path / "elsewhere")
    assert identity(conditions=moved_conditions) == first
    machine = ("--run.wandb", "offline", "--data.num_workers", "3", "--trainer.devices", "1", "--run.num_parts", "1")
    assert identity(conditions=replace(moved_conditions, options=machine)) == first
    precise = replace(moved_conditions, options=("--trainer.precision", "bf16-mixed"))
    longer_prior = replace(study, prior=replace(study.prior, images=12))
    longer = replace(study, restoration=replace(study.restoration, images=20))
    others = [identity(conditions=precise)]
    others += [identity(other, moved_conditions) for other in (longer_prior, longer)]
    next(moved.glob("*.png")).unlink()
    others.append(identity(conditions=moved_conditions))
    assert len({first, *others}) == 5


def test_a_finished_prior_takes_the_place_of_those_that_no_variant_changes(
    study: Study, conditions: Conditions, release: Path
) -> None:
    overlay = {"model": {"init_args": {"architecture": {"noise_mode": "add"}}}}
    study = replace(study, variants={**study.variants, "add": StudyVariant("added", both=overlay)})
    members = plan_members(study, replace(conditions, prior=release, seeds=(0,)))
    starts = {member.variant: member.restoration.start for member in members}
    assert starts["trained"] == starts["frozen"] == release and starts["none"] is None
    assert isinstance(starts["add"], PlannedRun)
    words = starts["add"].arguments
    assert words[words.index("--model.init_args.architecture.noise_mode") + 1] == "add"

    trained = f"{study.prior.images:,} images per run ({study.prior.configs[0]})"
    assert describe_priors(study, members, None) == trained
    before = f"{release.name}, trained before"
    assert describe_priors(study, members, release) == f"{before}, and {trained} for variants that change it"
    of_release = [member for member in members if member.variant != "add"]
    assert describe_priors(study, of_release, release) == before


def test_all_runs_of_a_folder_train_in_the_precision_of_its_first_one_whatever_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("system.machine.fastest_precision", lambda: Precision("bf16-mixed", ""))
    assert precision_options(tmp_path) == ("--trainer.precision", "bf16-mixed")
    run = tmp_path / "runs" / "prior_seed0_0123456789"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("data: {batch_size: 4}\nrun: {log_every_images: 8, total_images: 24}\n")
    session = {"num_processes": 1, "num_threads": 1, "precision": "32-true"}
    (run / "run.json").write_text(json.dumps({"data": {}, "sessions": [session]}))
    assert precision_options(tmp_path) == ("--trainer.precision", "32-true")


def test_the_plan_names_what_every_run_is_for_and_its_command(study: Study, conditions: Conditions) -> None:
    text = "\n".join(describe_plan(plan_members(study, replace(conditions, seeds=(0,)))))
    assert "prior_seed0" in text and "(trained seed 0, frozen seed 0): 0 of 8 images" in text
    assert text.count("python -m train fit --config") == 4


def test_the_plan_writes_nothing_and_its_commands_start_from_what_priors_will_have_ended_with(
    study: Study, conditions: Conditions
) -> None:
    study = replace(study, prior=replace(study.prior, images=10))
    members = plan_members(study, replace(conditions, seeds=(0,)))
    words = [shlex.split(line) for line in describe_plan(members) if line.startswith("  python")]
    assert not conditions.folder.exists()
    starts = [line[line.index("--model.init_args.start") + 1] for line in words if "--model.init_args.start" in line]
    prior = members[0].runs[0]
    assert starts == [str(prior.folder / "checkpoints" / "images_000000000008.ckpt")] * 2  # 10 has room for two batches
    for line in words:
        assert resolve(line[4:])["run"]["folder"].startswith(str(conditions.folder))
    learning_rates = [resolve(m.restoration.command()[3:])["model"]["init_args"]["optimization"] for m in members]
    assert [rates["decoder_learning_rate"] for rates in learning_rates[:2]] != [0.0, 0.0]
    assert learning_rates[1]["decoder_learning_rate"] == 0.0


def test_rhythms_fit_the_budget_unless_they_were_asked_for(study: Study, conditions: Conditions) -> None:
    def rhythms(images: int, *options: str) -> list[int]:
        changed = replace(study, restoration=replace(study.restoration, images=images))
        added = replace(conditions, seeds=(0,), options=(*conditions.options, *options))
        run = resolve(plan_members(changed, added)[0].restoration.command()[3:])["run"]
        return [run[name] for name in RHYTHMS]

    assert rhythms(4800) == [4, 8, 8]  # the configuration's
    assert rhythms(30) == [4, 5, 5] and rhythms(12) == [4, 4, 4]
    assert rhythms(30, "--run.validate_every_images", "7") == [4, 7, 5]
    assert rhythms(30, "--run.checkpoint_every_images=9") == [4, 5, 9]


def test_schedules_of_variants_end_with_a_shorter_run() -> None:
    study = read_study(ROOT / "configs" / "ablations" / "learning_rates.yaml")
    shorter = with_budget(study, Budget(restoration_images=4000))
    schedules = {
        name: variant.restoration["model"]["init_args"]["optimization"].get("schedule")
        for name, variant in shorter.variants.items()
        if variant.restoration
    }
    assert schedules["linear"]["decay_range_images"] == [2600, 4000]
    assert schedules["warm_up_cosine"] == {"warm_up_images": 200, "decay": "cosine", "decay_range_images": [0, 4000]}
    assert shorter.variants["clipped"] == study.variants["clipped"]
    assert with_budget(study, Budget(prior_images=100)).variants == study.variants


@pytest.mark.parametrize(("images", "between"), [(4800, 800), (96, 16), (4, 1)])
def test_rhythms_that_a_study_sets_leave_its_curves_as_many_points_in_another_budget(images: int, between: int) -> None:
    study = read_study(ROOT / "configs" / "ablations" / "noise_injection.yaml")
    assert (study.restoration.images, study.restoration.overlay["run"]) == (9600, {"validate_every_images": 1600})
    shorter = with_budget(study, Budget(restoration_images=images)).restoration
    assert shorter.overlay["run"] == {"validate_every_images": between}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": "other"}, "reference must be one of concat, add, none, got other"),
        ({"variants": {}}, "at least two variants, got 0"),
        (
            {"restoration": {"configs": ["configs/absent.yaml"], "images": 0}},
            "images must be at least 1, got 0; there ",
        ),
        ({"measurement": {"degradations": ["absent"]}}, "absent"),
        ({"question": None}, "question"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_wrong_study_is_refused_in_one_line(change: dict[str, object], message: str, tmp_path: Path) -> None:
    content = yaml.safe_load((ROOT / "configs" / "ablations" / "noise_injection.yaml").read_text())
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(content | change, sort_keys=False))
    with pytest.raises(ValueError, match=r"study\.yaml") as error:
        read_study(path)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_wrong_option_of_a_variant_is_named_with_the_variant(study: Study, conditions: Conditions) -> None:
    wrong = StudyVariant("wrong", restoration={"model": {"init_args": {"degradatoin": "paper"}}})
    with pytest.raises(ValueError, match=r"(?s)variant wrong: .*degradatoin"):
        plan_members(replace(study, variants={"trained": study.variants["none"], "wrong": wrong}), conditions)


def test_slots_divide_the_cores_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 6})
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert [slot.cores for slot in share_machine(2)] == [(0, 1), (2, 3)]
    assert share_machine(2)[1].environment()["OMP_NUM_THREADS"] == "2"
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    slots = share_machine(2)
    assert [slot.environment()["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["4,5", "6,7"]
    assert slots[0].options() == ["--trainer.devices", "2"]
    with pytest.raises(ValueError, match="from 1 to 4 here, the GPUs, got 5"):
        share_machine(5)


def test_a_failed_prior_takes_its_restorations_with_it_and_the_others_go_on(
    study: Study, conditions: Conditions, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = all_runs(plan_members(study, replace(conditions, seeds=(0,))))
    assert [run.stage for run in runs] == ["prior", "restoration", "restoration", "restoration"]
    tried = []

    def command(run: PlannedRun) -> list[str]:
        tried.append(run.name)
        return ["-c", "import sys; print('error: the disk is full', file=sys.stderr); sys.exit(2)"]

    monkeypatch.setattr(PlannedRun, "command", command)
    execution = Execution(runs, share_machine(1), lambda _: None)
    execution.carry_out()
    assert tried == [runs[0].name, runs[3].name]
    assert execution.failed[runs[0].fingerprint] == "exit code 2: the disk is full"
    assert execution.failed[runs[1].fingerprint] == f"{runs[0].name} failed"


def test_a_study_whose_runs_are_out_of_their_minutes_begins_no_more_and_says_by_its_code_that_it_goes_on(
    study: Study, conditions: Conditions, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    members = plan_members(study, replace(conditions, seeds=(0,)))
    monkeypatch.setattr(PlannedRun, "command", lambda run: ["-c", "import sys; sys.exit(75)"])
    with pytest.raises(SystemExit) as ended:
        carry_out(members, share_machine(1))
    assert ended.value.code == 75
    said = capsys.readouterr().out
    assert said.count("begins") == 1 and "run.max_minutes are over" in said and "failed" not in said


def carry_out_as_a_command(members: list[Any]) -> None:
    """What the process of a study does; tests under nohup have SIGHUP ignored."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    carry_out(members, share_machine(1))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process that its parent is gone")
@pytest.mark.parametrize("number", [*ENDING_SIGNALS, signal.SIGKILL])
def test_a_study_passes_signals_on_and_leaves_no_training_behind_even_where_it_is_killed(
    number: signal.Signals, study: Study, conditions: Conditions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members, note = plan_members(study, replace(conditions, seeds=(0,))), tmp_path / "training"
    monkeypatch.setattr(PlannedRun, "command", lambda run: [NOTING_CHILD, str(note)])
    process = get_context("fork").Process(target=carry_out_as_a_command, args=(members,))
    process.start()
    wait_for(lambda: noted(note).isdigit())
    training = int(noted(note))
    os.kill(process.pid or 0, number)
    process.join(60)
    if number == signal.SIGKILL:
        assert process.exitcode == -number
        wait_for(lambda: noted(note) == f"ended by {int(signal.SIGTERM)}", 5)
    else:
        assert process.exitcode == 128 + number
        assert noted(note) == f"ended by {int(number)}"
        with pytest.raises(ProcessLookupError):
            os.kill(training, 0)


@pytest.mark.slow
def test_a_study_is_stopped_continued_and_recognised(study: Study, conditions: Conditions, tmp_path: Path) -> None:
    variants = {
        name: {"description": v.description, "restoration": v.restoration} for name, v in study.variants.items()
    }
    del variants["none"]
    content = {
        "question": study.question,
        "reference": study.reference,
        "prior": {"configs": study.prior.configs, "images": 24},
        "restoration": {"configs": study.restoration.configs, "images": 24},
        "variants": variants,
        "measurement": {"degradations": ["small"], "metrics": ["psnr", "ssim"]},
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(content))
    faces, output = str(conditions.faces.faces), tmp_path / "studies"
    command = [sys.executable, "-m", "scripts.run_ablation", str(path), "--faces", faces, "--validation-faces", faces]
    command += ["--output", str(output), "--", "--run.wandb", "off"]

    first = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not any(len(p.read_text().splitlines()) > 1 for p in output.glob("runs/prior_*/train.csv")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    first.send_signal(signal.SIGTERM)
    assert first.wait(120) == 143
    prior = next(output.glob("runs/prior_*/train.csv")).parent
    assert list((prior / "checkpoints").glob("*.ckpt"))

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "continued at" in done.stdout or "images_000000000024" in str(list(prior.rglob("*.ckpt")))
    with (output / "tiny" / "report.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["variant"] for row in rows} == {"degraded input", "trained", "frozen"}
    assert (output / "tiny" / "report.html").is_file() and (output / "tiny" / "report.md").is_file()

    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0 and "begins" not in again.stdout and "continued" not in again.stdout
