"""What Weights & Biases and TensorBoard get of a run, read back from the files that they wrote."""

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import wandb
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record
from wandb.wandb_agent import Agent

from data.dataset import FaceImages
from data.faces.files import hold_out, open_faces
from models import GPEN, Architecture, Discriminator
from train.command import main
from train.reporting.tracking import read_table
from train.training import Training

Train = Callable[..., None]
ROOT = Path(__file__).resolve().parents[3]
SWEEP = ROOT / "configs" / "sweeps" / "restoration_learning_rates.yaml"
STUDY = ("--run.wandb", "offline", "--run.wandb_group", "study", "--run.wandb_tags", "[variant,seed_0]")


def records(segment: Path) -> Iterator[Record]:
    """What a segment of an offline run holds: LevelDB's log format, blocks of 32 KiB behind a header of 7 bytes."""
    wandb.teardown()  # for runs of this process: what writes the file is another one
    (path,) = segment.glob("*.wandb")
    content, position, parts = path.read_bytes(), 7, b""
    while position + 7 <= len(content):
        room = 32768 - position % 32768
        if room < 7:
            position += room
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        parts += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def segments(folder: Path) -> list[Path]:
    """The offline segments of a run, oldest first."""
    return sorted((folder / "wandb").glob("offline-run-*"))


def history(segment: Path) -> list[tuple[int, dict[str, Any]]]:
    """The rows of a segment in the order in which they were told: step and values."""
    rows = [record.history for record in records(segment) if record.HasField("history")]
    return [
        (row.step.num, {".".join(i.nested_key) or i.key: json.loads(i.value_json) for i in row.item}) for row in rows
    ]


def summary(segment: Path) -> dict[str, Any]:
    """What is left of all summaries of a segment."""
    told: dict[str, Any] = {}
    for record in records(segment):
        for item in record.summary.update:
            told["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
    return told


def check_rows(folder: Path) -> None:
    """Over all segments every row of the tables was told once, in order, with all its values."""
    told: dict[int, dict[str, Any]] = {}
    for segment in segments(folder):
        for step, values in history(segment):
            assert values["images_seen"] == step and step > max(told, default=-1)
            told[step] = values
    tables = [read_table(folder / name) for name in ("train.csv", "validation.csv")]
    assert set(told) == set(tables[0]) | set(tables[1])
    for table in tables:
        for images_seen, row in table.items():
            clock = ("speed/", "memory/")  # differs where a row was computed twice
            expected = {name: value for name, value in row.items() if not name.startswith(clock)}
            found = {name: told[images_seen][name] for name in expected}
            assert found == pytest.approx(expected, rel=1e-5, abs=1e-30)


@pytest.fixture(scope="module")
def tracked(
    tmp_path_factory: pytest.TempPathFactory, arguments: Callable[..., list[str]]
) -> Iterator[tuple[Path, str]]:
    """A run that was continued once, with both trackers; its folder and what it printed at last."""
    folder = tmp_path_factory.mktemp("tracked") / "run"
    output = ""
    for total in (16, 24):
        command = [
            sys.executable,
            "-m",
            "train",
            *arguments("restoration", folder, "--run.total_images", total, *STUDY),
        ]
        done = subprocess.run(
            [*command, "--run.tensorboard", "true"],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "https_proxy": "http://127.0.0.1:9"},
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")
        output = done.stdout
    yield folder, output


@pytest.mark.slow
def test_segments_of_a_run_share_id_project_group_and_tags(tracked: tuple[Path, str]) -> None:
    folder, _ = tracked
    runs = [next(r.run for r in records(segment) if r.HasField("run")) for segment in segments(folder)]
    assert len(runs) == 2 and len({run.run_id for run in runs}) == 1 and len(runs[0].run_id) >= 8
    for run in runs:
        assert (run.project, run.run_group, list(run.tags), run.display_name) == (
            "gpen",
            "study",
            ["variant", "seed_0"],
            "run",
        )


@pytest.mark.slow
def test_weights_and_biases_shows_the_whole_configuration_photographs_code_and_sizes(
    tracked: tuple[Path, str], tiny: Architecture
) -> None:
    folder, _ = tracked
    told: dict[str, Any] = {}
    for record in records(segments(folder)[1]):
        updates = [*record.run.config.update, *record.config.update]
        told |= {item.key: json.loads(item.value_json) for item in updates if item.key}
    expected = yaml.safe_load((folder / "config.yaml").read_text())
    expected["run"]["total_images"] = 24  # raised when the run was continued
    assert {name: told[name] for name in expected} == expected
    record = json.loads((folder / "run.json").read_text())
    assert told["photographs"] == record["data"] and told["session"] == record["sessions"][1]
    with torch.device("meta"):
        networks = {"generator": GPEN(tiny), "discriminator": Discriminator(tiny, 4)}
    sizes = {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}
    assert told["parameters"] == sizes


@pytest.mark.slow
def test_weights_and_biases_gets_every_row_of_the_tables_once_over_images_seen(tracked: tuple[Path, str]) -> None:
    folder, _ = tracked
    check_rows(folder)
    (_, row) = history(segments(folder)[0])[1]
    assert row["generator/gradient_norm"] > 0 and row["discriminator/gradient_norm"] > 0
    metrics = [record.metric for record in records(segments(folder)[0]) if record.HasField("metric")]
    assert [m.step_metric for m in metrics if m.glob_name == "*"] == ["images_seen"]
    psnr = next(m for m in metrics if m.name == "validation/psnr")
    assert psnr.step_metric == "images_seen" and psnr.summary.max and psnr.summary.last


@pytest.mark.slow
def test_the_summary_tells_best_and_last_validation_of_the_whole_run(tracked: tuple[Path, str]) -> None:
    folder, _ = tracked
    told = summary(segments(folder)[1])
    rows = list(read_table(folder / "validation.csv").values())
    assert len(rows) == 3  # at 0, 16 and the last image
    for name in ("validation/psnr", "validation/ssim"):
        assert told[name] == {"max": max(row[name] for row in rows), "last": rows[-1][name]}
    assert (told["status"], told["images_seen"]) == ("complete", 24)


@pytest.mark.slow
def test_the_table_shows_the_same_faces_with_their_figures_at_every_validation(
    tracked: tuple[Path, str], faces: Path
) -> None:
    folder, _ = tracked
    (segment,) = segments(folder)[:1]
    tables = [record.artifact.manifest for record in records(segment) if record.artifact.type == "run_table"]
    assert [step for step, values in history(segment) if "faces.path" in values] == [0, 16] and len(tables) == 2
    targets = FaceImages(hold_out(open_faces(faces), 64)[1], 32)
    files = [{entry.path: Path(entry.local_path) for entry in table.contents} for table in tables]
    contents = [json.loads(table["faces.table.json"].read_text()) for table in files]
    for images_seen, content, places in zip((0, 16), contents, files, strict=True):
        rows = [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]
        assert [row["face"] for row in rows] == targets.faces.names[: len(rows)] and len(rows) >= 2
        for index, row in enumerate(rows):
            pixels = {n: np.asarray(Image.open(places[row[n]["path"]])) for n in ("restored", "target")}
            assert (pixels["target"] == targets[index].permute(1, 2, 0).numpy()).all()
            squared = (pixels["restored"].astype(float) - pixels["target"]) ** 2
            assert row["PSNR restored"] == pytest.approx(10 * np.log10(255**2 / squared.mean()), abs=0.01)
        means = read_table(folder / "validation.csv")[images_seen]
        for column, name in (("PSNR degraded", "degraded/psnr"), ("SSIM restored", "validation/ssim")):
            assert np.mean([row[column] for row in rows]) == pytest.approx(means[name], rel=1e-4)
    first, second = ({row[0]: row[1]["sha256"] for row in content["data"]} for content in contents)
    assert first == second  # the same degradation


@pytest.mark.slow
def test_best_and_last_checkpoint_are_versions_of_an_artifact_that_outlive_their_files(
    tracked: tuple[Path, str], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tracked[0], tmp_path / "run", symlinks=True))
    versions = [r.artifact for s in segments(tracked[0]) for r in records(s) if r.artifact.type == "model"]
    aliases = [set(version.aliases) for version in versions]
    validations = read_table(folder / "validation.csv")
    best = max(validations, key=lambda images: validations[images]["validation/psnr"])
    kept = {int(path.stem[-12:]): path for path in (folder / "checkpoints").iterdir()}
    assert aliases[-1] >= {"latest", f"images_{24:012}"}
    if best in kept:  # there is none after 0 images
        assert any({"best", f"images_{best:012}"} <= names for names in aliases)
    for version in versions:
        metadata = json.loads(version.metadata)
        assert metadata["architecture"]["resolution"] == 32
        assert metadata["validation/psnr"] == validations[metadata["validated_images_seen"]]["validation/psnr"]
        (entry,) = version.manifest.contents
        original = tracked[0] / "checkpoints" / entry.path
        content = original.read_bytes()
        assert entry.size == len(content)
        assert Path(entry.local_path).resolve() != original.resolve()
        assert Path(entry.local_path).read_bytes() == content
        assert Path(entry.local_path).stat().st_ino == original.stat().st_ino  # no copy


@pytest.mark.slow
def test_the_command_that_a_run_prints_at_last_finds_all_its_segments(tracked: tuple[Path, str]) -> None:
    folder, output = tracked
    (command,) = [line.split("`")[1] for line in output.splitlines() if "wandb sync" in line]
    assert command == f"wandb sync {folder}/wandb"
    done = subprocess.run(
        [sys.executable, "-m", *command.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True
    )
    told = done.stdout + done.stderr
    assert "Would sync 2 run(s)" in told
    assert all(s.name in told for s in segments(folder)[:-1]) and "/latest-run/" in told  # a link to the last segment


@pytest.mark.slow
def test_a_run_killed_beyond_its_checkpoint_tells_no_row_twice(train: Train, tmp_path: Path) -> None:
    options = ["--run.checkpoint_every_images", 8, "--run.tensorboard", "true", "--run.wandb", "offline"]
    train("restoration", tmp_path, "--run.total_images", 24, *options)
    for path in sorted((tmp_path / "checkpoints").iterdir())[1:]:
        path.unlink()  # as if it had been killed before they were written
    train("restoration", tmp_path, "--run.total_images", 24, *options)
    assert [step for step, _ in history(segments(tmp_path)[1])] == []
    check_rows(tmp_path)
    check_events(tmp_path)


@pytest.mark.slow
def test_every_checkpoint_becomes_a_version_where_all_are_wanted_and_stays_when_the_run_removes_it(
    train: Train, tmp_path: Path
) -> None:
    options = ["--run.checkpoint_every_images", 8, "--run.keep_checkpoints", 1, "--run.wandb_checkpoints", "all"]
    train("prior", tmp_path, "--run.total_images", 24, "--run.wandb", "offline", *options)
    assert [path.stem for path in (tmp_path / "checkpoints").iterdir()] == [f"images_{24:012}"]
    versions = [r.artifact for r in records(segments(tmp_path)[0]) if r.artifact.type == "model"]
    assert [set(version.aliases) for version in versions] == [{"latest", f"images_{n:012}"} for n in (8, 16, 24)]
    for version, images_seen in zip(versions, (8, 16, 24), strict=True):
        (entry,) = version.manifest.contents
        assert torch.load(entry.local_path, weights_only=True)["images_seen"] == images_seen
    samples = [values.get("samples.path") for _, values in history(segments(tmp_path)[0])]
    assert len(list(filter(None, samples))) == 3  # at 0, 16 and the last image
    assert all((segments(tmp_path)[0] / "files" / path).is_file() for path in filter(None, samples))


@pytest.mark.slow
def test_an_agent_of_a_sweep_runs_the_same_command_line_in_a_folder_per_run(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = yaml.safe_load(SWEEP.read_text())
    # What a server would send: a value for each parameter; the last ones make a short run of two iterations.
    values = {
        name: p.get("value", p.get("min", p.get("values", [None])[-1])) for name, p in sweep["parameters"].items()
    }
    prior = ROOT / "weights" / "prior_64.safetensors"
    short = {"run.total_images": 32, "run.log_every_images": 16, "run.validate_every_images": 32}
    short |= {"run.checkpoint_every_images": 32, "data.num_workers": 0, "run.wandb": "offline"}
    folder = tmp_path / "runs" / "sweeps" / "sweep1" / "run1"
    sweep["command"] = [str(word).replace('"runs/', f'"{tmp_path}/runs/') for word in sweep["command"]]
    for name, value in {"FACES": faces, "PRIOR": prior, "WANDB_SWEEP_ID": "sweep1", "WANDB_DIR": tmp_path}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(ROOT)
    agent = Agent(api=None, queue=None, sweep_id="sweep1")
    agent._sweep_command = sweep["command"]
    arguments = {name: {"value": value} for name, value in (values | short).items()}
    agent._command_run({"run_id": "run1", "program": sweep["program"], "args": arguments})
    assert agent._run_processes["run1"].wait(timeout=300) == 0
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for name, value in (values | short).items():
        found: Any = config
        for key in name.split("."):
            found = found[key]
        assert found == value, name
    (segment,) = segments(folder)
    run = next(r.run for r in records(segment) if r.HasField("run"))
    assert (run.run_id, run.sweep_id) == ("run1", "sweep1")
    assert set(read_table(folder / "train.csv")) == {16, 32}
    assert sweep["metric"]["name"] in read_table(folder / "validation.csv")[32]


def test_the_options_of_a_sweep_are_options_of_the_command_line_with_the_values_given(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Training] = []
    monkeypatch.setattr(Training, "fit", lambda self: built.append(self) or 0)
    parameters = yaml.safe_load(SWEEP.read_text())["parameters"]
    rates = {name: 1.5e-05 for name in parameters if name.endswith("learning_rate")}  # which Python writes as 1.5e-05
    options = [
        "--data.faces",
        faces,
        "--run.folder",
        tmp_path,
        "--run.wandb",
        "off",
        "--config",
        "configs/restoration_64.yaml",
    ]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["train", "fit", *map(str, options), *(f"--{n}={v}" for n, v in rates.items())])
    with torch.device("meta"):
        main()
    optimization = built[-1].model.optimization
    assert len(rates) == 3
    assert {getattr(optimization, name.rsplit(".", 1)[1]) for name in rates} == {1.5e-05}


@pytest.mark.slow
def test_without_network_an_online_run_ends_with_one_line_that_names_the_way_out(
    arguments: Callable[..., list[str]], tmp_path: Path
) -> None:
    nowhere = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40, "WANDB_INIT_TIMEOUT": "3"}
    command = [sys.executable, "-m", "train", *arguments("prior", tmp_path / "run", "--run.wandb", "online")]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **nowhere}, capture_output=True, text=True)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: Weights & Biases must be within reach for --run.wandb online, got ")
    assert last.endswith("or take --run.wandb offline and send the run later with `wandb sync`")
    assert "Traceback" not in done.stderr


def check_events(folder: Path) -> None:
    """TensorBoard shows every row of the tables once."""
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    for table in ("train.csv", "validation.csv"):
        columns: dict[str, dict[int, float]] = {}
        for images_seen, row in read_table(folder / table).items():
            for name, value in row.items():
                columns.setdefault(name, {})[images_seen] = value
        for name, column in columns.items():
            told = [(event.step, event.value) for event in events.Scalars(name)]
            assert dict(told) == pytest.approx(column, rel=1e-5, abs=1e-30), name
            assert len(told) == len(column)


def test_tensorboard_gets_every_row_of_the_tables_and_the_pictures(train: Train, tmp_path: Path) -> None:
    train("restoration", tmp_path, "--run.total_images", 16, "--run.tensorboard", "true")
    check_events(tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0}).Reload()
    pictures = events.Images("pictures")
    assert [picture.step for picture in pictures] == [0, 16]
    for picture in pictures:
        written = np.asarray(Image.open(tmp_path / "pictures" / f"images_{picture.step:012}.png"))
        assert (picture.width, picture.height) == (written.shape[1], written.shape[0])


def test_without_wishes_a_run_writes_its_tables_and_nothing_for_trackers(train: Train, tmp_path: Path) -> None:
    train("restoration", tmp_path, "--run.total_images", 8)
    assert (tmp_path / "train.csv").is_file()
    assert not (tmp_path / "wandb").exists() and not (tmp_path / "tensorboard").exists()
