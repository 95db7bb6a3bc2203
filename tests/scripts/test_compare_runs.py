import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data.faces.files import open_faces
from models import GPEN, Architecture, save_release
from scripts.compare_runs import main
from studies.comparison import read_variants

Run = Callable[..., tuple[int, str, str]]
MakeRun = Callable[..., Path]


@pytest.fixture
def options(faces_folder: Path, tmp_path: Path) -> list[object]:
    faces = "--faces", faces_folder, "--max-faces", 3
    return [*faces, "--degradations", "small", "--metrics", "psnr", "--output", tmp_path / "out"]


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another restorer of the same size."""
    torch.manual_seed(1)
    path = tmp_path / "other.safetensors"
    save_release(path, GPEN(Architecture(resolution=32, channel_multiplier=1, narrow=1 / 32, style_dim=16)))
    return path


def test_runs_as_seeds_and_a_file_are_compared_with_numbers_of_their_evaluations(
    run: Run, options: list[object], make_run: MakeRun, other: Path, tmp_path: Path, evaluated: list[Path]
) -> None:
    runs = [make_run(f"run{seed}", seed) for seed in range(2)]
    code, out, err = run(main, f"concat={runs[0]},{runs[1]}", other, *options)
    assert code == 0, err
    tidy = list(csv.DictReader((tmp_path / "out" / "report.csv").read_text().splitlines()))
    found = {(r["variant"], r["member"]): float(r["value"]) for r in tidy if r["metric"] == "psnr"}
    assert list(found) == [("degraded input", ""), ("concat", "seed 0"), ("concat", "seed 1"), (other.name, other.name)]
    for (variant, member), value in list(found.items())[1:]:
        folder = tmp_path / "out" / "evaluations" / variant / member.replace(" ", "_") / "small"
        assert value == pytest.approx(json.loads((folder / "metrics.json").read_text())["restored"]["psnr"]["mean"])
    assert f"{found[('concat', 'seed 0')]:.3f}" in out and "± 0.000" in out and "± 0.0 min" in out
    difference = found[(other.name, other.name)] - found[("concat", "seed 0")]
    words = f"small: {other.name} is {abs(difference):.3f} dB PSNR {'above' if difference > 0 else 'below'} concat"
    assert words in out
    page = (tmp_path / "out" / "report.html").read_text()
    harm = f"small: {other.name} makes faces worse: "  # random weights
    assert harm in out and harm in page
    assert "What differs among the variants" not in page  # the other one is a file
    assert str(tmp_path) not in page and "run0" in page
    assert len(evaluated) == 3


def test_an_interrupted_comparison_is_continued_and_a_finished_one_not_replaced(
    run: Run, options: list[object], release: Path, tmp_path: Path, evaluated: list[Path]
) -> None:
    assert run(main, release, *options)[0] == 0 and len(evaluated) == 1
    code, _, err = run(main, release, *options)
    assert code == 2 and "add --overwrite" in err
    (tmp_path / "out" / "report.html").unlink()
    assert run(main, release, *options)[0] == 0 and len(evaluated) == 1
    assert run(main, release, *options, "--overwrite", "--seed", 1)[0] == 0 and len(evaluated) == 2


def test_models_are_compared_on_stored_pairs_whose_names_a_template_tells(
    run: Run, faces_folder: Path, release: Path, tmp_path: Path
) -> None:
    for index, name in enumerate(open_faces(faces_folder).names):
        face = open_faces(faces_folder).read(index)
        path = tmp_path / "lq" / Path(name).with_name(f"{Path(name).stem}x4.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        face.resize((8, 8)).save(path)
    words = ["--faces", faces_folder, "--degradations", tmp_path / "lq", "--metrics", "psnr", "--output"]
    code, out, err = run(main, release, *words, tmp_path / "out", "--names", "{}x4")
    assert code == 0 and "degradation lq" in out, err
    protocol = json.loads(next((tmp_path / "out" / "evaluations").rglob("metrics.json")).read_text())["protocol"]
    assert protocol["degradation_values"]["names"] == ["{}x4"] and protocol["num_faces"] == 5
    code, _, err = run(main, release, *words, tmp_path / "other")
    assert code == 2 and "say how the names differ, which looks like '{}x4'" in err


def test_a_name_that_looks_like_markup_is_shown_as_it_is(
    run: Run, options: list[object], release: Path, other: Path, tmp_path: Path
) -> None:
    code, out, err = run(main, f"[/x]={release}", f"+y={other}", *options)
    assert code == 0, err
    assert "[/x]" in out and (tmp_path / "out" / "report.html").is_file()
    members = [row["variant"] for row in csv.DictReader((tmp_path / "out" / "report.csv").read_text().splitlines())]
    assert "[/x]" in members and "'+y" in members


def test_a_checkpoint_of_a_run_brings_its_record_up_to_there(make_run: MakeRun) -> None:
    prior = make_run("first")
    start = prior / "checkpoints" / "images_000000002000.ckpt"
    later = make_run("second", seed=5, start=start, at_images=(1000, 2000))
    (by_folder,) = read_variants([str(later)]).values()
    assert by_folder[0].name == "seed 5" and by_folder[0].checkpoint.name == "images_000000002000.ckpt"
    assert by_folder[0].runs == {"earlier restoration": prior, "restoration": later}
    (by_file,) = read_variants([str(later / "checkpoints" / "images_000000001000.ckpt")]).values()
    assert by_file[0].runs == by_folder[0].runs
    with pytest.raises(FileNotFoundError, match="holds no run"):
        read_variants([str(later / "checkpoints")])


def test_the_same_seed_twice_is_told_apart_by_its_folder(make_run: MakeRun) -> None:
    runs = [make_run(name) for name in ("a", "b")]
    members = read_variants([f"x={runs[0]},{runs[1]}"])["x"]
    assert [member.name for member in members] == ["a", "b"]


def test_a_path_with_commas_and_equal_signs_is_one_path(tmp_path: Path, release: Path) -> None:
    path = tmp_path / "a=b,c.safetensors"
    path.write_bytes(release.read_bytes())
    assert [member.checkpoint for member in read_variants([str(path)])[path.name]] == [path]
    assert read_variants([f"x={path}"])["x"][0].checkpoint == path


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("resolutions", "must have one resolution"),
        ("nothing there", "there is no run, checkpoint or exported model at"),
        ("one name twice", "write NAME=PATH"),
        ("a name of two lines", r"names must be texts of one line that can be shown, got a b;"),
        ("a name that clears the screen", r"names must be texts of one line that can be shown, got \\x1b\[2J"),
        ("reference", "--reference must be one of"),
        ("no preset", "no degradation preset"),
        ("run without checkpoint", "has written none yet"),
        ("output among the faces", "must not lie in one another"),
    ],
)
def test_wrong_arguments_end_with_one_line_and_exit_code_two(
    run: Run, options: list[object], release: Path, make_run: MakeRun, tmp_path: Path, case: str, message: str
) -> None:
    large = tmp_path / "large.safetensors"
    save_release(large, GPEN(Architecture(resolution=64, channel_multiplier=1, narrow=1 / 32, style_dim=16)))
    empty = make_run("empty", at_images=())
    arguments: dict[str, list[object]] = {
        "resolutions": [release, large],
        "nothing there": [tmp_path / "none"],
        "one name twice": [release, release],
        "a name of two lines": [f"a\nb={release}"],
        "a name that clears the screen": [f"\x1b[2J={release}"],
        "reference": [release, "--reference", "x"],
        "no preset": [release, "--degradations", "none-such"],
        "run without checkpoint": [empty],
        "output among the faces": [release, "--output", options[1]],
    }
    code, out, err = run(main, *options[:-2], "--output", tmp_path / "out", *arguments[case])
    assert code == 2 and out == "" and "Traceback" not in err
    assert re.search(f"^error: .*{message}", err, re.MULTILINE), err
    assert not (tmp_path / "out").exists()
