import json
import shutil
from pathlib import Path

import pytest

from studies import comparison as contents
from studies.measurement import evaluate_checkpoint


@pytest.fixture
def protocol(faces_folder: Path) -> contents.TestProtocol:
    return contents.TestProtocol(faces_folder, ("small", "released"), seed=3, metrics=("psnr", "ssim"))


def with_changes(protocol: contents.TestProtocol, **changes: object) -> contents.TestProtocol:
    return contents.TestProtocol(**vars(protocol) | changes)


def test_results_are_made_once_and_again_only_where_something_differs(
    protocol: contents.TestProtocol, release: Path, tmp_path: Path, evaluations_in_process: list[list[str]]
) -> None:
    folders = evaluate_checkpoint(release, protocol, tmp_path / "out")
    assert folders == {name: tmp_path / "out" / name for name in ("small", "released")}
    assert json.loads((folders["small"] / "metrics.json").read_text())["protocol"]["seed"] == 3
    assert len(evaluations_in_process) == 2
    evaluate_checkpoint(release, protocol, tmp_path / "out")
    assert len(evaluations_in_process) == 2
    for number, changes in enumerate(({"seed": 4}, {"metrics": ("psnr",)}, {"max_faces": 2}), start=3):
        evaluate_checkpoint(release, with_changes(protocol, degradations=("small",), **changes), tmp_path / "out")
        assert len(evaluations_in_process) == number
    another = tmp_path / "another.safetensors"
    another.write_bytes(release.read_bytes())
    evaluate_checkpoint(another, with_changes(protocol, degradations=("released",)), tmp_path / "out")
    assert len(evaluations_in_process) == 5  # the same content under another name


def test_an_evaluation_that_was_cut_short_is_repeated(
    protocol: contents.TestProtocol, release: Path, tmp_path: Path, evaluations_in_process: list[list[str]]
) -> None:
    protocol = with_changes(protocol, degradations=("small",))
    folder = evaluate_checkpoint(release, protocol, tmp_path / "out")["small"]
    whole = (folder / "per_image.csv").read_text()
    for damage in ("no end", "half a table", "half a summary"):
        if damage == "no end":
            (folder / "metrics.json").unlink()
        elif damage == "half a table":
            (folder / "per_image.csv").write_text(whole[: len(whole) // 2])
        else:
            (folder / "metrics.json").write_text((folder / "metrics.json").read_text()[:100])
        before = len(evaluations_in_process)
        evaluate_checkpoint(release, protocol, tmp_path / "out")
        assert len(evaluations_in_process) == before + 1, damage
        assert (folder / "per_image.csv").read_text() == whole


def test_an_own_preset_is_compared_by_its_values(
    protocol: contents.TestProtocol, release: Path, tmp_path: Path, evaluations_in_process: list[list[str]]
) -> None:
    preset = tmp_path / "mine.yaml"
    for noise in (5.0, 6.0):
        preset.write_text(f"first:\n  noise_sigma_range: [0.0, {noise}]\n")
        folders = evaluate_checkpoint(release, with_changes(protocol, degradations=(str(preset),)), tmp_path / "out")
    values = json.loads((folders["mine"] / "metrics.json").read_text())["protocol"]["degradation_values"]
    assert values["first"]["noise_sigma_range"] == [0.0, 6.0] and len(evaluations_in_process) == 2
    with pytest.raises(ValueError, match="different names"):
        with_changes(protocol, degradations=(str(preset), "other/mine.yaml")).preset_names()


def test_a_failed_evaluation_is_told_in_its_own_words(
    protocol: contents.TestProtocol, release: Path, tmp_path: Path, evaluations_in_process: list[list[str]]
) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(release.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"^broken.safetensors cannot be measured under small: .*broken.safetensors"):
        evaluate_checkpoint(broken, protocol, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        evaluate_checkpoint(tmp_path / "none.ckpt", protocol, tmp_path / "out")
    shutil.rmtree(protocol.faces)
    with pytest.raises(FileNotFoundError, match="existing folder"):
        evaluate_checkpoint(release, protocol, tmp_path / "out")


@pytest.mark.slow
def test_the_process_gets_the_environment(
    protocol: contents.TestProtocol, release: Path, tmp_path: Path, faces_folder: Path
) -> None:
    one = with_changes(protocol, degradations=("small",), metrics=("psnr",))
    folder = evaluate_checkpoint(release, one, tmp_path / "out", {"OMP_NUM_THREADS": "1"})["small"]
    assert json.loads((folder / "metrics.json").read_text())["protocol"]["num_faces"] == 5
    with pytest.raises(ValueError, match="cannot be measured"):
        evaluate_checkpoint(release, one, tmp_path / "other", {"PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere"})
