"""Random edits of every config end in a run or in one clear line; so do those of degradation presets."""

import contextlib
import io
import itertools
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

import train.stages.restoration
from data.degradation.presets import PRESETS_FOLDER, load_preset, preset_names
from system import command_line
from train.command import main
from train.training import Training

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ("prior_512", "prior_64", "restoration_512", "restoration_64")
OVERLAYS = ("size_256", "recipes/paper", "recipes/released")
TRAINER = {"devices": 1, "accelerator": "cpu", "precision": "32-true", "max_time": None, "strategy": "auto"}
TINY = {"resolution": 32, "channel_multiplier": 1, "narrow": 0.0625, "style_dim": 32, "num_mapping_layers": 2}
MOST_PARAMETERS, MOST_IMAGES, MOST_PIXELS = 3_000_000, 32, 64
"""Beyond these a run is only built, not started: it would be right, but long."""

STRANGE = (
    *("", "null", "~", "../..", "/dev/null", "1e999", "-1e-999", "0x10", "1_0", "yes", "a.b.c", "os.system", "${HOME}"),
    *("train.stages.prior.PriorTraining", "train.stages.restoration.RestorationTraining", "torch.nn.Linear"),
    *(
        "!!python/object/apply:os.system [x]",
        "*",
        "&a",
        "%",
        "{",
        "[1",
        "- -",
        "é\u202e",
        "\x1b[31m",
        "\ud800",
        "x" * 300,
    ),
)
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.integers(-2, 9) | st.floats() | st.sampled_from(STRANGE)
) | st.text(max_size=12)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
WITHOUT_SHRINKING = (Phase.explicit, Phase.generate)  # half a second each


def places(values: Any, start: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every entry of nested dictionaries and lists."""
    entries = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in entries:
        yield (*start, key)
        yield from places(value, (*start, key))


KINDS = ("value", "value", "value", "near", "delete", "rename", "add", "move")


def edit(data: st.DataObject, values: Any, kinds: Sequence[str] = KINDS) -> Any:
    """Changes one entry: another value, one nearby, none, another name, one more."""
    *way, key = data.draw(st.sampled_from(sorted(places(values), key=str)))
    parent = values
    for step in way:
        parent = parent[step]
    kind = data.draw(st.sampled_from(kinds))
    old = parent[key]
    if kind == "near" and isinstance(old, bool):
        parent[key] = not old
    elif kind == "near" and isinstance(old, int | float):
        near = st.sampled_from(
            (-old, 0, 1, old * 2, old * 3, old // 2, old / 3, old + 1, old * 1000, 1e-9, float("inf"))
        )
        parent[key] = data.draw(near)
    elif kind == "near":  # texts and groups stay
        return values
    elif kind == "delete":
        del parent[key]
    elif isinstance(parent, dict) and kind in ("rename", "add", "move"):
        name = data.draw(st.text(max_size=9) | st.sampled_from(("init_args", "class_path", "fit", "config", f"{key}s")))
        parent[name] = data.draw(VALUES) if kind == "add" else old
        if kind == "rename" and name != key:
            del parent[key]
    else:
        parent[key] = data.draw(VALUES)
    return values


def edited_text(data: st.DataObject, text: str, kinds: Sequence[str] = KINDS) -> str:
    """A YAML text after one to three edits of its values, at times of its characters too."""
    values = yaml.safe_load(text)
    for _ in range(data.draw(st.integers(1, 3))):
        if values and any(True for _ in places(values)):
            values = edit(data, values, kinds)
    text = yaml.safe_dump(values, allow_unicode=True)
    if kinds == KINDS and data.draw(st.integers(0, 4)) == 0:
        place = data.draw(st.integers(0, len(text)))
        text = text[:place] + data.draw(st.text(max_size=3)) + text[place + data.draw(st.integers(0, 3)) :]
    return text


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with faces; nothing is downloaded, and no memory is taken for LPIPS and the like."""
    folder = tmp_path_factory.getbasetemp() / "configs"
    (folder / "faces").mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for index in range(12):
        Image.fromarray(random.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / "faces" / f"{index}.png")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(train.stages.restoration, "start_networks", lambda *_: [])
    for name in ("train.stages.restoration_losses.LpipsLoss", "train.stages.restoration_losses.IdentityLoss"):
        monkeypatch.setattr(name, lambda *_: torch.nn.Identity())
    return folder


def outcome(arguments: list[str]) -> str:
    """Runs the command as `python -m train` does; what it says on stderr before exit code 2, or "" at exit code 0."""
    errors = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(errors):
        patch.setattr(sys, "argv", ["train", *arguments])
        with contextlib.redirect_stdout(io.StringIO()), pytest.raises(SystemExit) as ended:
            command_line.conclude(main)
    if ended.value.code == 0:
        return ""
    text = errors.getvalue()
    line = text.strip().splitlines()[-1]
    assert ended.value.code == 2 and line.startswith("error: ") and len(line) > 15, text[-2000:]
    assert len(line) < 3000 and " object at 0x" not in line and "Traceback" not in text, text[-2000:]
    return line


def build(folder: Path, names: list[str]) -> Training | None:
    """Parses and instantiates everything on the meta device; None if the configs are refused."""
    built: list[Training] = []
    options = [word for name in names for word in ("--config", name)]
    options += ["--data.faces", str(folder / "faces"), "--run.wandb", "off"]
    with pytest.MonkeyPatch.context() as patch, torch.device("meta"):
        patch.setattr(Training, "fit", lambda self: built.append(self) or 0)
        refused = outcome(["fit", *options])
    return None if refused or not built else built[0]


def write(path: Path, text: str) -> str:
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return str(path)


@pytest.mark.parametrize("base", CONFIGS)
@settings(max_examples=max(2, settings.default.max_examples // 25), phases=WITHOUT_SHRINKING)  # type: ignore[union-attr]
@given(data=st.data(), overlay=st.sampled_from((None, *OVERLAYS)))
def test_edited_configs_build_a_run_or_are_refused_in_one_line(
    data: st.DataObject, base: str, overlay: str | None, folder: Path, tally: Counter[str]
) -> None:
    if overlay is None:
        values = yaml.safe_load((ROOT / "configs" / f"{base}.yaml").read_text()) | {"trainer": dict(TRAINER)}
        names = [write(folder / "edited.yaml", edited_text(data, yaml.safe_dump(values)))]
    else:
        text = edited_text(data, (ROOT / "configs" / f"{overlay}.yaml").read_text())
        names = [str(ROOT / "configs" / f"{base}.yaml"), write(folder / "edited.yaml", text)]
    command = build(folder, names)
    tally["edited configs refused" if command is None else "edited configs accepted"] += 1


def tiny_config(stage: str) -> dict[str, Any]:
    """A run of two iterations with everything in it that a config can say."""
    values: dict[str, Any] = yaml.safe_load((ROOT / "configs" / f"{stage}_64.yaml").read_text())
    values["model"]["init_args"]["architecture"] = dict(TINY)
    values["model"]["init_args"]["computation"] = {"minibatch_group_size": 2}
    values["data"] |= {"batch_size": 4, "num_validation_faces": 2, "cache_mebibytes": 1}
    values["run"] |= {"log_every_images": 4, "validate_every_images": 8, "checkpoint_every_images": 8}
    if stage == "prior":
        values["model"]["init_args"]["fid_num_images"] = 0
    else:
        values["model"]["init_args"]["degradation"] = "small"
    return values


RUNS = itertools.count()
NEARBY = ("near", "near", "near", "near", "delete")  # most of these are accepted and really run


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["prior", "restoration"])
@settings(max_examples=max(6, settings.default.max_examples // 125), phases=WITHOUT_SHRINKING)  # type: ignore[union-attr]
@given(data=st.data())
def test_edited_configs_run_or_end_in_one_line(
    data: st.DataObject, stage: str, folder: Path, tally: Counter[str]
) -> None:
    name = write(folder / "run.yaml", edited_text(data, yaml.safe_dump(tiny_config(stage)), NEARBY))
    machine = ["--data.num_workers", "0", "--trainer.devices", "1", "--trainer.accelerator", "cpu"]
    machine += ["--trainer.strategy", "auto", "--trainer.num_nodes", "1", "--run.total_images", "8"]
    command = build(folder, [name])
    if command is None:
        tally["runs from edited configs: refused"] += 1
        return
    size = sum(p.numel() for p in command.model.generator.parameters())
    images = command.data.batch_size
    if size > MOST_PARAMETERS or images > MOST_IMAGES or command.model.architecture.resolution > MOST_PIXELS:
        tally["runs from edited configs: too large to start here"] += 1
        return
    options = ["--data.faces", str(folder / "faces"), "--run.wandb", "off", *machine]
    options += ["--run.folder", str(folder / f"run_{next(RUNS)}")]
    refused = outcome(["fit", "--config", name, *options])
    tally[f"runs from edited configs: {'ended in one line' if refused else 'finished'}"] += 1


@given(data=st.data(), name=st.sampled_from(preset_names()))
def test_edited_presets_are_read_or_refused_in_one_line(
    data: st.DataObject, name: str, folder: Path, tally: Counter[str]
) -> None:
    path = folder / "preset.yaml"
    write(path, edited_text(data, (PRESETS_FOLDER / f"{name}.yaml").read_text()))
    try:
        ranges = load_preset(str(path))
    except ValueError as error:
        tally["edited presets refused"] += 1
        assert str(path) in str(error) and "\n" not in str(error) and len(str(error)) < 3000
        return
    tally["edited presets accepted"] += 1
    assert ranges.first is not None
