"""A typed, documented function is a command line: its help, its errors in one line, its exit codes."""

import errno
import importlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

import train.command
from system import command_line

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "torchvision", "torchmetrics", "pytorch_lightning", "kornia", "lpips", "scipy", "matplotlib", "wandb",
         "onnx", "onnxruntime", "onnxscript", "dlib", "tensorboard", "cv2", "safetensors")  # fmt: skip
"""Libraries that take long to load and say nothing about options."""


@dataclass(frozen=True)
class Pictures:
    """How pictures are read."""

    color: str = "black"
    """Behind transparent ones."""


@dataclass(frozen=True)
class Faces:
    """Faces to measure on."""

    faces: Path | None = None
    """Folder of clean faces."""
    seed: int = 0
    """Of the degradation."""
    pictures: Pictures = Pictures()


seen: list[tuple[object, ...]] = []


def measure(
    bundle: Path,
    /,
    output: Path,
    group: Faces,
    metrics: tuple[Literal["psnr", "ssim"], ...] = ("psnr",),
    max_faces: int | None = None,
    largest_drop: float = 0.1,
    overwrite: bool = False,
    *options: str,
) -> int:
    """Measures a bundle.

    It is measured twice. Exit code 3.

    Args:
        bundle: What is measured.
        output: Where results go.
        metrics: Which figures.
        max_faces: Only the first ones.
        largest_drop: In dB.
        overwrite: Replace results.
        options: For training.
    """
    seen.append((bundle, output, group, metrics, max_faces, largest_drop, overwrite, options))
    return 3


def code_and_error(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[object, str]:
    with pytest.raises(SystemExit) as ended:
        command_line.run(measure, words)
    return ended.value.code, capsys.readouterr().err


def test_words_become_the_arguments_of_the_function_and_its_result_the_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    words = [
        "x",
        "--output=~/y",
        "--faces",
        "~/z",
        "--metrics",
        "psnr",
        "ssim",
        "--max-faces",
        "4",
        "--largest_drop",
        "1",
        "--color",
        "white",
    ]
    assert code_and_error(capsys, *words, "--overwrite", "--", "--trainer.devices", "2") == (3, "")
    assert seen.pop() == (
        Path("x"),
        tmp_path / "y",
        Faces(tmp_path / "z", 0, Pictures("white")),
        ("psnr", "ssim"),
        4,
        1.0,
        True,
        ("--trainer.devices", "2"),
    )
    assert code_and_error(capsys, "x", "--output", "y") == (3, "")
    assert seen.pop() == (Path("x"), Path("y"), Faces(), ("psnr",), None, 0.1, False, ())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x"], "required, but not given: --output"),
        ([], "required, but not given: bundle, --output"),
        (["x", "--output", "y", "--max-face", "4"], "unrecognized arguments: --max_face 4"),
        (["x", "--output", "y", "z"], "unrecognized arguments: z"),
        (["x", "--output", "y", "--max_faces", "many"], "--max_faces must be a whole number or null, got many"),
        (["x", "--output", "y", "--largest_drop", "null"], "--largest_drop must be a number, got null"),
        (["x", "--output", "y", "--metrics", "lpips"], "--metrics must be some of psnr, ssim, got lpips"),
        (["x", "--output", "y", "--seed", "1.5"], "--seed must be a whole number, got 1.5"),
        (["x", "--output", "null"], "--output must be a path, got null"),
        (["x", "--output", ""], "--output must be a path, got ''"),
        (["", "--output", "y"], "bundle must be a path, got ''"),
        (["x", "--output"], "argument --output: expected one argument"),
    ],
)
def test_what_is_no_command_line_is_one_line_and_code_2(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert code_and_error(capsys, *words) == (2, f"error: {message}\n")
    assert not seen


def test_help_is_the_docstring_and_describes_every_option(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as ended:
        command_line.run(measure, ["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0
    for words in (
        "Measures a bundle. It is measured twice. Exit code 3.",
        "bundle What is measured. (required",
        "--output OUTPUT Where results go. (required",
        "Only the first ones. (type: int | null, default: null)",
        "--overwrite Replace results.",
        "Faces to measure on: --faces FACES Folder of clean faces.",
        "How pictures are read: --color COLOR Behind transparent ones.",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ValueError("a\n  b"), 2, "error: a b\n"),
        (FileNotFoundError("gone"), 2, "error: gone\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "/proc/x.png"),
            2,
            "error: /proc/x.png: no such file or directory; check the name; what is to be written needs a place where "
            "files can be made\n",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", b"/a\nb"),
            2,
            "error: /a\\nb: permission denied; choose a place where you may do that\n",
        ),
        (
            FileExistsError(errno.EEXIST, "File exists", "/a"),
            2,
            "error: /a: file exists; a file or a link to nothing is where a folder is wanted; choose another name\n",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            2,
            "error: no space left on device; make room, or write to another disk, and repeat the command\n",
        ),
    ],
)
def test_an_expected_error_is_one_line_and_its_code(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        command_line.conclude(fail)
    assert (ended.value.code, capsys.readouterr().err) == (code, line)


def test_an_import_that_ctrl_c_broke_is_an_interruption_and_another_one_is_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Libraries in C turn the one into the other."""

    def interrupted() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise ImportError("numpy failed to import")  # noqa: B904

    with pytest.raises(SystemExit) as ended:
        command_line.conclude(interrupted)
    assert (ended.value.code, capsys.readouterr().err) == (130, "interrupted\n")
    with pytest.raises(ModuleNotFoundError):
        command_line.conclude(lambda: importlib.import_module("no_such_module_of_this_project"))


def test_a_table_is_printed_whole_in_a_narrow_terminal_and_obeys_no_markup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    command_line.print_table("[bold]a\nb", ("face [dB]", "x" * 30), [("[/x]=1", "y" * 30), ("two", "1\n2")])
    text = capsys.readouterr().out
    assert all(word in text for word in ("[bold]a\\nb", "face [dB]", "[/x]=1"))
    assert text.count("x") == 31 and text.count("y") == 30 and max(map(len, text.splitlines())) <= 40
    monkeypatch.delenv("COLUMNS")
    command_line.print_table("", ("face", "words"), [("1", "y" * 100)])  # no terminal: as wide as it has to be
    assert "y" * 100 in capsys.readouterr().out


def commands() -> list[str]:
    """Every command but training, whose options are those of Lightning and of classes."""
    return ["export.__main__", *(f"scripts.{p.stem}" for p in sorted((ROOT / "scripts").glob("[a-z]*.py")))]


@pytest.mark.parametrize("name", commands())
def test_help_loads_no_library_that_only_work_needs(name: str) -> None:
    program = (
        "import importlib, sys\n"
        "from system import command_line\n"
        "try: command_line.run(importlib.import_module(sys.argv[1]).main, ['--help'])\n"
        "except SystemExit as ended: code = ended.code\n"
        "print(code, *sorted(set(sys.argv[2:]) & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, name, *HEAVY], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == "0\n" and f"usage: python -m {name.removesuffix('.__main__')}" in done.stdout


NOWHERE = {
    "train.command": ("fit", "--config", "configs/prior_64.yaml", "--data.faces", "/nowhere"),
    "export.__main__": ("--checkpoint", "/nowhere", "--output", "new"),
    "scripts.benchmark": ("--faces", "/nowhere"),
    "scripts.check_faces": ("/nowhere",),
    "scripts.check_gpu": ("--faces", "/nowhere"),
    "scripts.compare_quantization": ("--checkpoint", "/nowhere", "--calibration_faces", "a", "--faces", "b"),
    "scripts.compare_runs": ("a", "--faces", "/nowhere", "--output", "new"),
    "scripts.convert_checkpoint": ("/nowhere", "--to", "public", "--output", "new"),
    "scripts.describe_checkpoint": ("/nowhere",),
    "scripts.evaluate": ("--faces", "/nowhere", "--output", "new"),
    "scripts.evaluate_bundle": ("/nowhere", "--outputs", "a"),
    "scripts.prepare_faces": ("/nowhere", "--output", "new"),
    "scripts.preview_degradation": ("--faces", "/nowhere", "--output", "new.png"),
    "scripts.publish_weights": ("--prior", "/nowhere", "--restoration_run", "a", "--faces", "b", "--data", "c"),
    "scripts.render_faces": ("--checkpoint", "/nowhere", "--output", "new"),
    "scripts.replay_update": ("/nowhere",),
    "scripts.restore_faces": ("--checkpoint", "/nowhere", "--input", "a", "--output", "new"),
    "scripts.restore_photos": ("/nowhere", "--output", "new"),
    "scripts.run_ablation": ("/nowhere", "--faces", "a", "--validation_faces", "b"),
    "scripts.run_demo": ("--faces", "/nowhere"),
    "scripts.verify_run": ("/nowhere",),
}
"""An input that is not there, for every command that has one."""


@pytest.mark.parametrize("name", ["train.command", *commands()])
def test_an_input_that_is_not_there_is_named_before_a_library_that_takes_long_is_loaded(name: str) -> None:
    if name == "scripts.soak_run":
        pytest.skip("it reads nothing")
    program = (
        "import importlib, sys\n"
        "from system import command_line\n"
        "main, heavy, sys.argv = importlib.import_module(sys.argv[1]).main, sys.argv[2].split(), sys.argv[2:]\n"
        "try: command_line.conclude(main) if sys.argv[1] == 'fit' else command_line.run(main)\n"
        "except SystemExit as ended: code = ended.code\n"
        "print(code, *sorted(set(heavy) & set(sys.modules)), file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", program, name, " ".join(HEAVY), *NOWHERE[name]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "/nowhere; check the path" in done.stderr and done.stderr.endswith("\n2\n")


@pytest.mark.parametrize("name", ["train", *(name.removesuffix(".__main__") for name in commands())])
def test_ctrl_c_while_a_command_is_imported_ends_it_in_one_line(name: str, tmp_path: Path) -> None:
    """By whatever is imported behind what sees to it; what comes after imports is caught by `conclude`."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if 'system' in sys.modules and name != 'system.interruption':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-m", name, "--help"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr) == (130, "interrupted\n")


@pytest.mark.parametrize("name", commands())
def test_every_argument_of_a_command_is_described(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser, options = command_line._parser(importlib.import_module(name).main)
    described = {action.dest: action.help or "" for action in parser._actions}
    assert not [option for option in options if described[option].count(" ") < 2]


READS_NO_PICTURES = {"check_gpu", "describe_checkpoint", "render_faces", "replay_update", "soak_run", "verify_run"}


def test_every_command_that_reads_pictures_takes_the_color_behind_transparent_ones() -> None:
    without = {
        name.removeprefix("scripts.")
        for name in commands()
        if "background_color" not in command_line._parser(importlib.import_module(name).main)[1]
    }
    assert without == READS_NO_PICTURES


def test_help_of_training_loads_no_library_that_only_work_needs() -> None:
    program = (
        "import sys\n"
        "from system import command_line\n"
        "from train.command import main\n"
        "sys.argv = ['train', 'fit', '--help']\n"
        "try: command_line.conclude(main)\n"
        "except SystemExit as ended: code = ended.code\n"
        "print(code, *sorted(set(sys.argv_of_test) & set(sys.modules)), file=sys.stderr)\n"
    ).replace("sys.argv_of_test", repr(HEAVY))
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == "0\n" and done.stdout.startswith("usage: python -m train fit --config FILE")


FIRST_LINE_OF_TRAINING = (
    "import sys\n"
    "from train.command import fit\n"
    "class Out:\n"
    "    def write(self, text): end(text)\n"
    "    def flush(self): pass\n"
    "def end(text):\n"
    "    print(text, *sorted(set(heavy) & set(sys.modules)), sep='|', file=sys.stderr)\n"
    "    sys.exit(3)\n"
    f"heavy, sys.stdout = {HEAVY!r}, Out()\n"
    "try: fit(sys.argv[1:])\n"
    "except ValueError as error: end(error)\n"
)
"""Ends at the first text that a run prints, or at the first error, and says which libraries are loaded by then."""


@pytest.mark.parametrize(
    ("rank", "words", "first"),
    [
        ("0", (), "starting: runs/no, 1,234 images of no_faces, on "),
        ("0", ("--run.total_images", "many"), "run.total_images must be a whole number, got many"),
        ("1", ("--data.batch_size", "x"), "data.batch_size must be a whole number, got x"),
    ],
)
def test_a_run_prints_its_first_line_or_what_is_wrong_before_a_library_that_takes_long_is_loaded(
    rank: str, words: tuple[str, ...], first: str
) -> None:
    options = ("--data.faces", "no_faces", "--run.folder", "runs/no", "--run.total_images", "1234", *words)
    command = [sys.executable, "-c", FIRST_LINE_OF_TRAINING, "--config", "configs/prior_64.yaml", *options]
    environment = {**os.environ, "RANK": rank}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 3 and done.stderr.startswith(first) and "|" not in done.stderr


def test_no_process_but_the_first_says_that_a_run_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    words = ["--config", "configs/prior_64.yaml", "--data.faces", "f", "--run.folder", "r"]
    _, config = train.command._parse(words, with_model=False)
    for name in ("LOCAL_RANK", "RANK", "SLURM_PROCID"):
        with monkeypatch.context() as changed:
            changed.setenv(name, "1")
            train.command._say_what_starts(config)
    assert capsys.readouterr().out == ""
    train.command._say_what_starts(config)
    assert capsys.readouterr().out.startswith("starting: r, 200,000 images of f, on ")
