"""No training and no input is ever removed unasked, whatever lies in the folder of a run."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from system.atomic_file import ASIDE_PREFIX

Fail = Callable[..., str]
Train = Callable[..., None]
RHYTHM = ["--run.checkpoint_every_images", 8, "--run.keep_checkpoints", 99]


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def files_below(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != "run.lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def draw_faces(folder: Path, number: int, seed: int = 0, format: str = "PNG") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for index in range(number):
        image = Image.fromarray(random.integers(0, 256, (40, 40, 3), dtype=np.uint8))
        image.save(folder / f"{index:02}.{format.lower()}", format)
    return folder


@pytest.mark.parametrize("name", ["pictures", "samples", "checkpoints", "wandb"])
def test_photographs_where_a_run_would_write_are_never_removed(fail: Fail, tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    photographs = draw_faces(run / name, 22)
    before = files_below(run)
    line = fail("prior", run, "--data.faces", photographs)
    assert f"holds {name} but no run" in line and "overwrite" not in line
    assert f"would remove {photographs}" in fail(
        "prior", run, "--data.faces", photographs, "--run.overwrite", "true", "--run.total_images", 8
    )
    assert "so that nothing in it is removed" in fail("prior", run, "--run.overwrite", "true")  # with other faces too
    assert files_below(run) == before


@pytest.mark.parametrize("way", ["data.validation_faces", "model.init_args.degradation", "link", "list", "config"])
def test_no_input_of_any_kind_lies_in_what_overwrite_removes(
    train: Train, fail: Fail, tmp_path: Path, faces: Path, way: str
) -> None:
    run = tmp_path / "run"
    train("restoration", run, "--run.total_images", 4)
    options: list[object] = []
    if way == "data.validation_faces":
        options = ["--data.validation_faces", draw_faces(run / "pictures" / "mine", 3)]
    elif way == "link":  # a folder of links, one of which leads into the run
        linked = draw_faces(run / "pictures" / "mine", 1)
        collected = draw_faces(tmp_path / "collected", 12)
        (collected / "link.png").symlink_to(linked / "00.png")
        options = ["--data.faces", collected]
    elif way == "list":
        linked = draw_faces(run / "pictures" / "mine", 12)
        (tmp_path / "list.txt").write_text("".join(f"{path}\n" for path in linked.iterdir()))
        options = ["--data.faces", tmp_path / "list.txt"]
    else:
        file = run / "samples" / "mine.yaml"
        file.parent.mkdir(exist_ok=True)
        is_config = way == "config"
        preset = Path("configs/degradations/small.yaml")
        file.write_text("run: {seed: 3}\n" if is_config else preset.read_text())
        options = ["--config", file] if is_config else ["--model.init_args.degradation", file]
    before = files_below(run)
    line = fail("restoration", run, "--run.overwrite", "true", "--run.seed", 5, *options)
    assert "--run.overwrite true would remove" in line and "move the input elsewhere" in line
    assert files_below(run) == before


def test_a_replaced_run_is_kept_until_the_new_one_has_written_a_checkpoint(
    train: Train, fail: Fail, tmp_path: Path
) -> None:
    train("prior", tmp_path, "--run.total_images", 8)
    old = files_below(tmp_path)
    # The new run fails in its first iteration: its minibatch groups do not divide the batch of the parts.
    other = ["--run.seed", 1, "--run.overwrite", "true", "--data.max_broken_share", 0]
    broken = draw_faces(tmp_path.parent / f"{tmp_path.name}_faces", 22)
    for path in broken.iterdir():
        path.write_bytes(b"no image")
    fail("prior", tmp_path, *other, "--data.faces", broken)
    (aside,) = tmp_path.glob(f"{ASIDE_PREFIX}*")
    assert files_below(aside) == old
    train("prior", tmp_path, *other[:4], "--run.total_images", 8)
    assert not list(tmp_path.glob(f"{ASIDE_PREFIX}*"))
    assert checkpoints(tmp_path) == ["images_000000000008.ckpt"]
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["run"]["seed"] == 1


def test_a_run_whose_configuration_is_lost_is_not_emptied_and_continues_as_the_line_says(
    train: Train, fail: Fail, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("prior", tmp_path, "--run.total_images", 16, *RHYTHM)
    (tmp_path / "config.yaml").unlink()
    before = files_below(tmp_path)
    line = fail("prior", tmp_path, "--run.total_images", 24, *RHYTHM)
    assert "there is no config.yaml" in line and "the newest, images_000000000016.ckpt" in line
    assert f"--print_config > {tmp_path}/config.yaml" in line and "--run.overwrite true" in line
    assert files_below(tmp_path) == before
    capsys.readouterr()
    with pytest.raises(SystemExit):
        train("prior", tmp_path, "--run.total_images", 24, *RHYTHM, "--print_config")
    (tmp_path / "config.yaml").write_text(capsys.readouterr().out)
    train("prior", tmp_path, "--run.total_images", 24, *RHYTHM)
    assert checkpoints(tmp_path)[-1] == "images_000000000024.ckpt"
    assert [one["images_seen"] for one in json.loads((tmp_path / "run.json").read_text())["sessions"]] == [0, 16]


def test_a_run_whose_record_is_lost_is_not_emptied_and_continues_as_the_line_says(
    train: Train, fail: Fail, tmp_path: Path
) -> None:
    train("prior", tmp_path, "--run.total_images", 16, *RHYTHM)
    (tmp_path / "run.json").unlink()
    line = fail("prior", tmp_path, "--run.total_images", 24, *RHYTHM)
    assert "there is no run.json" in line and "--run.accept_other_faces true" in line
    train("prior", tmp_path, "--run.total_images", 24, *RHYTHM, "--run.accept_other_faces", "true")
    assert checkpoints(tmp_path)[-1] == "images_000000000024.ckpt"
    train("prior", tmp_path, "--run.total_images", 32, *RHYTHM)  # the faces are on record again


DAMAGES: dict[str, tuple[str, Callable[[str], str]]] = {
    "an empty record": ("run.json", lambda text: "{}"),
    "a list as record": ("run.json", lambda text: "[1]"),
    "a record cut off": ("run.json", lambda text: text[: len(text) // 2]),
    "a configuration cut in its middle": ("config.yaml", lambda text: text[: len(text) // 2]),
    "a configuration cut within a line": ("config.yaml", lambda text: text[:30]),
    "an empty configuration": ("config.yaml", lambda text: ""),
    "a configuration that is a list": ("config.yaml", lambda text: "- 1\n- 2\n"),
    "a configuration that is no YAML": ("config.yaml", lambda text: "run: {seed: [1\n"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_of_a_run_is_named_in_one_line_and_nothing_is_removed(
    train: Train, fail: Fail, tmp_path: Path, damage: str
) -> None:
    train("prior", tmp_path, "--run.total_images", 8)
    name, change = DAMAGES[damage]
    (tmp_path / name).write_text(change((tmp_path / name).read_text()))
    before = files_below(tmp_path)
    line = fail("prior", tmp_path, "--run.total_images", 16)
    assert f"{tmp_path / name} is damaged" in line and "to continue from the newest" in line
    assert files_below(tmp_path) == before


def test_the_log_of_a_run_without_its_checkpoints_is_not_removed(train: Train, fail: Fail, tmp_path: Path) -> None:
    train("prior", tmp_path, "--run.total_images", 24, *RHYTHM)
    for path in (tmp_path / "checkpoints").iterdir():
        path.rename(tmp_path / path.name)
    before = files_below(tmp_path)
    line = fail("prior", tmp_path, "--run.total_images", 24, *RHYTHM)
    assert "the record of a run up to image 24 but none of its checkpoints" in line
    assert files_below(tmp_path) == before
    train("prior", tmp_path, "--run.total_images", 8, "--run.overwrite", "true")
    assert checkpoints(tmp_path) == ["images_000000000008.ckpt"]
    assert (tmp_path / "images_000000000024.ckpt").is_file()  # nothing that a run calls its own


def test_a_complete_run_shorter_than_its_rhythm_of_checkpoints_is_not_begun_anew(
    train: Train, fail: Fail, tmp_path: Path
) -> None:
    options = ["--run.total_images", 8, "--run.checkpoint_every_images", 1000]
    train("prior", tmp_path, *options)
    shutil.rmtree(tmp_path / "checkpoints")
    (tmp_path / "checkpoints").touch()
    before = files_below(tmp_path)
    assert "the record of a run up to image 8 but none of its checkpoints" in fail("prior", tmp_path, *options)
    assert files_below(tmp_path) == before


def test_added_photographs_are_named_with_both_numbers_and_training_goes_on_with_them_when_asked(
    train: Train, fail: Fail, tmp_path: Path
) -> None:
    photographs, run = draw_faces(tmp_path / "faces", 33), tmp_path / "run"
    options = ["--data.faces", photographs, *RHYTHM]
    train("prior", run, "--run.total_images", 8, *options)
    draw_faces(photographs, 39)
    line = fail("prior", run, "--run.total_images", 16, *options)
    assert "holds a run with other settings (faces to train on: 30, now 36); put the former ones back" in line
    assert "--run.accept_other_faces true" in line and "--run.folder" in line
    train("prior", run, "--run.total_images", 16, *options, "--run.accept_other_faces", "true")
    record = json.loads((run / "run.json").read_text())
    assert record["data"]["num_faces"] == "36" and len(record["sessions"]) == 2
    train("prior", run, "--run.total_images", 24, *options)


@pytest.mark.parametrize("format", ["PNG", "BMP"])
def test_other_pixels_under_the_same_names_and_sizes_are_noticed(
    train: Train, fail: Fail, tmp_path: Path, format: str
) -> None:
    photographs, run = draw_faces(tmp_path / "faces", 40, 0, format), tmp_path / "run"
    sizes = {path.name: path.stat().st_size for path in photographs.iterdir()}
    train("prior", run, "--run.total_images", 8, "--data.faces", photographs)
    for path in sorted(photographs.iterdir())[:30]:
        times = path.stat()
        content = bytearray(path.read_bytes())
        content[-50:-40] = bytes(255 - value for value in content[-50:-40])
        path.write_bytes(content)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # a copy that keeps times hides nothing
    assert {path.name: path.stat().st_size for path in photographs.iterdir()} == sizes
    line = fail("prior", run, "--run.total_images", 16, "--data.faces", photographs)
    assert "pixels of the faces to train on: 36 as before, but others" in line


@pytest.mark.parametrize("kind", ["folder", "link to nothing"])
def test_a_last_checkpoint_that_is_no_file_is_named_and_the_one_before_it_is_taken(
    train: Train, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    train("prior", tmp_path, "--run.total_images", 8, *RHYTHM)
    last = tmp_path / "checkpoints" / "images_000000000016.ckpt"
    last.mkdir() if kind == "folder" else last.symlink_to(tmp_path / "nowhere")
    train("prior", tmp_path, "--run.total_images", 24, *RHYTHM)
    output = capsys.readouterr().out
    assert f"{last} is damaged: it is a folder or a link to nothing; taking images_000000000008.ckpt instead" in output
    assert last.is_file() and not last.is_symlink()  # written again on the way
    assert (
        checkpoints(tmp_path)[-1] == "images_000000000024.ckpt"[: len("images_000000000024.ckpt")] or kind == "folder"
    )


def test_a_run_all_of_whose_checkpoints_are_damaged_can_be_replaced(train: Train, tmp_path: Path) -> None:
    train("prior", tmp_path, "--run.total_images", 8)
    (tmp_path / "checkpoints" / "images_000000000008.ckpt").write_bytes(b"nothing")
    train("prior", tmp_path, "--run.total_images", 4, "--run.overwrite", "true")
    assert checkpoints(tmp_path) == ["images_000000000004.ckpt"]


def test_the_record_of_a_folder_is_the_same_for_every_reader(train: Train, tmp_path: Path) -> None:
    train("prior", tmp_path, "--run.total_images", 8)
    record: dict[str, Any] = json.loads((tmp_path / "run.json").read_text())
    assert {"fingerprint", "contents", "times", "validation_contents"} <= set(record["data"])
