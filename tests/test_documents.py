"""Every command line of README and docs is read by the parser it is meant for, and the quick ones are run."""

import importlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from demo.page import GO_ON
from system import command_line
from tests.fuzz.forked_commands import in_fork
from tests.photographs.conftest import draw_group_photo
from train.command import resolve

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(path for path in (ROOT / "docs").rglob("*.md") if path.name != "report.md")
DOCUMENTS += [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "weights/README.md")]
LAUNCHERS = ("torchrun.sh", "slurm.sbatch")
ELLIPSIS = "…"


class Line(NamedTuple):
    """A command line of a document."""

    document: str
    words: tuple[str, ...]
    """Without comments; whatever stands for more of them is left out."""
    is_whole: bool
    """Whether it is to be typed as it stands, but for names in capitals."""


def lines_of(document: Path) -> list[Line]:
    """Commands in blocks, and those inside of sentences, which need not be whole."""
    text = document.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^(?: {4,}|\$ )(\S.*)$", text, re.MULTILINE)
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        blocks += block.splitlines()
    spans = [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]
    name = document.relative_to(ROOT).as_posix()
    found = [(blocks, True), (spans, False)]
    return [line for texts, is_block in found for text in texts if (line := line_of(name, text, is_block)) is not None]


def line_of(document: str, text: str, is_block: bool) -> Line | None:
    """A command line of this project, without variables and container before it; None for anything else."""
    text = re.sub(r"^(\w+=\S+ +)+", "", re.sub(r"^docker run .* gpen-trainer ", "python -m ", text))
    modules = r"(\.venv/bin/)?python -m (train|export|scripts|tests|pytest)\b"
    if not re.match(rf"{modules}|make \w|sbatch .*scripts/launch/|scripts/launch/\S+ ", text):
        return None
    text = re.sub(r" N\b", " 16", re.sub(r"\[(--\w+)\]", r"\1", text))  # a number; options that may be left out
    before, dots, after = text.partition(ELLIPSIS)
    words = shlex.split(before, comments=True)
    more = shlex.split(after, comments=True) if dots and "#" not in before else []
    first = next((index for index, word in enumerate(more) if word.startswith("--")), len(more))
    return Line(document, (*words, *more[first:]), is_block and not dots)


PAGE = [line_of("demo/page.py", text, ELLIPSIS not in text) for text in GO_ON.replace("\\\n", " ").splitlines()]
"""Those that the demo's page ends with."""
ALL_LINES = list(dict.fromkeys(line for document in DOCUMENTS for line in lines_of(document)))
ALL_LINES += [line for line in PAGE if line is not None and "--help" not in line.words]


def identifier(line: Line) -> str:
    return f"{line.document}: {' '.join(line.words)[:90]}"


@pytest.mark.parametrize("line", ALL_LINES, ids=identifier)
def test_a_command_line_of_the_documents_is_understood(line: Line) -> None:
    program, *words = line.words
    if program == "make":
        command = ["make", "--dry-run", "--old-file", ".venv/.complete", *words]
        recipe = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for line in filter(None, (line_of(line.document, text, True) for text in recipe.splitlines())):
            read_module(line.words[2], list(line.words[3:]), is_whole=True)
        return
    if program.endswith("python"):
        read_module(words[1], words[2:], line.is_whole)
        return
    script = next(word for word in line.words if word.startswith("scripts/launch/"))
    assert (ROOT / script).is_file()
    more = list(line.words[line.words.index(script) + 1 :])
    if Path(script).name in LAUNCHERS:
        read_training(more[more[0].startswith("runs/") :] if more else [])
    elif Path(script).name == "train_release.sh":
        assert len(more) == 4  # FACES VALIDATION_FACES OUTPUT and what the faces are
    elif more:
        read_command("scripts.run_ablation", more, is_whole=False)


def read_module(module: str, words: list[str], is_whole: bool) -> None:
    """Reads what follows `python -m`."""
    missing = [
        word for word in words if word.startswith(("configs/", "tests/", "weights/")) and not (ROOT / word).exists()
    ]
    assert not missing
    if module == "train":
        assert words[:1] in (["fit"], [])
        read_training(words[1:])
    elif module != "pytest" and module != "scripts.NAME":
        read_command("export.__main__" if module == "export" else module, words, is_whole)


def read_training(words: list[str]) -> None:
    """Reads the options of a run; those that every run needs are added where a sentence leaves them out."""
    stage = [] if "--config" in words else ["--config", "configs/prior_64.yaml"]
    faces = [] if "--data.faces" in words else ["--data.faces", "FACES"]
    assert resolve([*stage, *words, *faces])["data"]["faces"] in ("FACES", "/faces")


def read_command(module: str, words: list[str], is_whole: bool) -> None:
    """Reads the arguments of a command; only a sentence may leave out what is required."""
    try:
        command_line.arguments_of(importlib.import_module(module).main, words)
    except ValueError as error:
        if is_whole or not str(error).startswith(("required, but not given", "give either --faces")):
            raise


def test_the_documents_hold_all_commands_and_a_test_runs_the_lines_of_each() -> None:
    modules = {line.words[2] for line in ALL_LINES if line.words[0].endswith("python")} - {"scripts.NAME"}
    modules = {module for module in modules if not module.startswith("tests.")}
    scripts = {f"scripts.{path.stem}" for path in (ROOT / "scripts").glob("*.py")} - {"scripts.__init__"}
    assert scripts - {"scripts.render_faces"} <= modules
    assert sum(line.is_whole for line in ALL_LINES) > 25
    tests = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").rglob("test_*.py")))
    calls = "".join(re.findall(r"lines_to_run\(([^()]*)\)", tests))
    assert modules == {*re.findall(r'"([\w.]+)"', calls)} | {f"scripts.{name}" for name in QUICK}


QUICK = ("restore_faces", "check_faces", "preview_degradation", "describe_checkpoint", "convert_checkpoint")


@pytest.mark.parametrize("name", QUICK)
def test_the_quick_commands_of_the_readme_run_as_they_stand(
    name: str, run: Callable[..., tuple[int, str, str]], release: Path, faces_folder: Path, tmp_path: Path
) -> None:
    line = next(one for one in lines_of(ROOT / "README.md") if one.words[1:3] == ("-m", f"scripts.{name}"))
    places = {"FACES": [faces_folder], "FILE": [release], "FOLDER": [faces_folder, tmp_path / "restored"]}
    places |= {"X": [release], "preview.png": [tmp_path / "preview.png"], "gpen.onnx": [tmp_path / "gpen.onnx"]}
    words = [places[word].pop(0) if word in places else word for word in line.words[3:]]
    code, out, err = run(importlib.import_module(f"scripts.{name}").main, *words)
    assert code == 0 and out and "error" not in err


def test_converting_and_checking_run_as_the_other_documents_have_them(
    run: Callable[..., tuple[int, str, str]], release: Path, faces_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "seg2face.safetensors"
    places = {"GPEN-Seg2face-512.pth": release, "GPEN-BFR-512.pth": release, "FACES": faces_folder}
    places |= {"seg2face.safetensors": output, "gpen.onnx": tmp_path / "gpen.onnx"}
    names = {f"scripts.{name}" for name in ("check_faces", "convert_checkpoint", "describe_checkpoint")}
    whole = [one for one in ALL_LINES if one.document.startswith("docs/") and one.is_whole]
    lines = [one for one in whole if names.intersection(one.words[2:3])]
    assert {one.words[2] for one in lines} == names
    for line in lines:
        words = [places.get(word, word) for word in line.words[3:]]
        code, out, err = run(importlib.import_module(line.words[2]).main, *words)
        assert code == 0 and out and "error" not in err, line
    assert output.is_file()


TINY = shlex.split(
    "--trainer.accelerator cpu --trainer.devices 1 --trainer.precision 32-true --data.batch_size 2 --data.num_workers 0"
    " --run.total_images 4 --run.wandb off --run.convolutions whole --model.init_args.architecture.resolution 32"
    " --model.init_args.architecture.channel_multiplier 1 --model.init_args.architecture.narrow 0.03125"
    " --model.init_args.architecture.style_dim 16"
)
"""Options of a training that make it as short as can be, of the network of `release`."""
TRAININGS = ("README.md", "docs/training.md", "docs/quantization.md")
EXPORTS = ("docs/deployment.md", "docs/export.md", "docs/quantization.md")


@pytest.fixture
def place(
    tmp_path: Path, release: Path, draw_faces: Callable[[Path], Path], make_run: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:  # fmt: skip
    """The working folder: all that the documents name lies in it under that name, small."""
    for name in ("FACES", "TRAIN", "VAL", "A", "B"):
        draw_faces(tmp_path / name)
    for name in ("a", "concat", "concat_0", "concat_1", "add_0", "add_1", "inpainting"):
        make_run(name, seed=int(name.endswith("1")))
    make_run("quantized_64", at_images=(6400,))
    (tmp_path / "X").symlink_to(tmp_path / "runs" / "a")
    for name in ("weights/gpen_64.safetensors", "BUNDLE/generator.onnx"):
        (tmp_path / name).parent.mkdir()
    (tmp_path / "weights" / "gpen_64.safetensors").write_bytes(release.read_bytes())
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there: nothing is downloaded
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


def run_line(run: Callable[..., tuple[int, str, str]], line: Line, *more: str) -> None:
    """Runs a command line as it stands, but for options that make it short."""
    module = {"export": "export.__main__", "train": "train.command"}.get(line.words[2], line.words[2])
    code, out, err = run(importlib.import_module(module).main, *line.words[3:], *more)
    assert code == 0 and out and "error" not in err, (line, err)


def lines_to_run(*modules: str, in_sentences: bool = False) -> list[Line]:
    """Command lines of README and docs, each once: whole ones, and also what stands in sentences."""
    lines: dict[tuple[str, ...], Line] = {}
    for line in ALL_LINES:
        if (line.is_whole or in_sentences) and {*line.words[2:3]} & {*modules}:
            lines.setdefault(line.words, line)
    return list(lines.values())


@pytest.mark.parametrize("line", lines_to_run("scripts.evaluate"), ids=identifier)
def test_evaluation_runs_as_the_documents_have_it(
    line: Line, run: Callable[..., tuple[int, str, str]], place: Path, release: Path
) -> None:
    save_public(release, place / "GPEN-BFR-512.pth", run)
    if "--names" in line.words:
        for folder, ending in (("A", "lq"), ("B", "hq")):
            for path in sorted((place / folder).rglob("*.png")):
                path.rename(path.with_stem(f"{path.stem}_{ending}"))
    run_line(run, line, "--metrics", "psnr")
    assert (place / "results" / "metrics.json").is_file()


def save_public(release: Path, path: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    """A checkpoint as public GPEN's are."""
    convert = importlib.import_module("scripts.convert_checkpoint").main
    assert run(convert, release, "--to", "public", "--output", path)[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("line", lines_to_run("scripts.compare_runs"), ids=identifier)
def test_comparison_runs_as_the_documents_have_it(
    line: Line, run: Callable[..., tuple[int, str, str]], place: Path, release: Path
) -> None:
    convert = importlib.import_module("scripts.convert_checkpoint").main
    assert run(convert, release, "--to", "facefusion", "--output", place / "BUNDLE" / "generator.onnx")[0] == 0
    run_line(run, line, "--metrics", "psnr", "--max_faces", "2")
    assert (place / "comparison" / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("document", EXPORTS)
def test_export_and_what_follows_it_run_as_the_documents_have_them(
    document: str, run: Callable[..., tuple[int, str, str]], place: Path, release: Path
) -> None:
    save_public(release, place / "GPEN-BFR-512.pth", run)
    (place / "BUNDLE").rmdir()
    lines = lines_to_run("export", "scripts.evaluate_bundle", "scripts.compare_quantization")
    lines = [line for line in lines if line.document == document]
    for line in sorted(lines, key=lambda line: line.words[2] == "export" and "--precision" in line.words):
        if line.words[2] == "scripts.compare_quantization":
            run_line(run, line, "--num_calibration", "2", "--num_faces", "2", "--imbalance", "0")
        elif line.words[2] == "export":
            few = ["--images", "2", "--calibration_faces", "2", "--evaluation_faces", "2", "--overwrite"]
            is_whole = document == "docs/export.md" or "--precision" in line.words
            run_line(run, line, *few, *([] if is_whole else ["--precision", "float32", "fp16"]))
        else:
            precision = line.words[line.words.index("--precision") + 1]
            (place / "FOLDER").symlink_to(place / line.words[3] / "golden" / "outputs" / precision)
            run_line(run, line)


@pytest.mark.slow
@pytest.mark.parametrize("document", TRAININGS)
def test_training_runs_as_the_documents_have_it(
    document: str, run: Callable[..., tuple[int, str, str]], place: Path
) -> None:
    for line in (line for line in lines_to_run("train") if line.document == document):
        folder = place / line.words[line.words.index("--run.folder") + 1]
        shutil.rmtree(folder, ignore_errors=True)
        run_line(run, line, *TINY)
        last = folder / "checkpoints" / "images_000000000004.ckpt"
        if folder.name == "prior_512":  # what the next lines start from
            (place / "PRIOR").symlink_to(folder)
            last = last.rename(last.with_stem("images_000025000000"))
        assert last.is_file()


@pytest.mark.slow
@pytest.mark.parametrize("line", lines_to_run("scripts.run_ablation"), ids=identifier)
def test_a_study_runs_as_the_documents_have_it(
    line: Line,
    run: Callable[..., tuple[int, str, str]],
    place: Path,
    draw_faces: Callable[[Path], Path],
    make_run: Callable[..., Path],
) -> None:
    draw_faces(place / "OTHERS")
    make_run("prior_512", at_images=(25_000_000,))
    study, options = split_at_dashes(line.words)
    variant = "l1" if "loss_terms" in line.words[3] else "concat"
    few = ["--seeds", "1", "--at_once", "1", "--prior_images", "4", "--restoration_images", "4"]
    new = ["--model.init_args.optimization.take_discriminator", "false"]  # there is none beside this prior
    run_line(run, line._replace(words=(*study, *few, "--variants", variant, "--", *options, *TINY, *new)))
    assert len(list(place.glob("runs/ablations/*/report.html"))) == 1


@pytest.mark.slow
def test_a_run_is_repeated_as_the_documents_have_it(run: Callable[..., tuple[int, str, str]], place: Path) -> None:
    training = importlib.import_module("train.command").main
    words = ["fit", "--config", "configs/prior_64.yaml", "--data.faces", "FACES", "--run.folder", "RUN", *TINY]
    assert run(training, *words)[0] == 0
    lines = lines_to_run("scripts.verify_run", in_sentences=True)
    assert len(lines) == 2
    for line in lines:
        run_line(run, line, *(["--images", "4"] if line.is_whole else []))


def split_at_dashes(words: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What stands before `--`, and behind it."""
    end = words.index("--") if "--" in words else len(words)
    return words[:end], words[end + 1 :]


@pytest.mark.slow
@pytest.mark.parametrize("line", lines_to_run("scripts.prepare_faces", "scripts.restore_photos"), ids=identifier)
def test_photographs_are_prepared_and_restored_as_the_documents_have_it(
    line: Line, run: Callable[..., tuple[int, str, str]], place: Path
) -> None:
    (place / "PHOTOS").mkdir()
    Image.fromarray(draw_group_photo().pixels).save(place / "PHOTOS" / "group.png")
    if line.words[2] == "scripts.prepare_faces":
        shutil.rmtree(place / "FACES")
        run_line(run, line, "--resolution", "64", "--least_sharpness", "0")
        assert len(list(place.glob("FACES/*/*.png"))) > 1
    else:
        run_line(run, line, "--most_lost_levels", "255")
        assert (place / "RESTORED" / "group.png").read_bytes() != (place / "PHOTOS" / "group.png").read_bytes()


@pytest.mark.slow
def test_what_the_documents_give_to_pytest_is_found(tmp_path: Path) -> None:
    paths = [word for line in ALL_LINES if "pytest" in line.words for word in line.words if word.startswith("tests/")]
    (fuzzing,) = lines_to_run("pytest")[-1:]
    words = [*fuzzing.words[3:], *paths, "--collect-only", "--quiet"]
    found = in_fork(lambda: sys.exit(pytest.main(words)), ROOT, tmp_path / "log", seconds=60)
    assert found.code == 0, found.output
    assert all(re.search(rf"^{re.escape(path)}", found.output.decode(), re.MULTILINE) for path in paths)
