"""Release files from finished runs."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from models import GPEN, Architecture, load_discriminator, load_generator, load_prior, read_checkpoint
from studies.release import LARGEST_BYTES, WEIGHTS_SUFFIXES, card_text, interpolate, interpolated_card
from studies.request import Release
from tests.test_documents import lines_to_run

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"architecture.resolution": "64", "architecture.narrow": "0.03125", "architecture.style_dim": "16"}


def train(config: str, faces: Path, folder: Path, *more: str) -> None:
    options = [word for name, value in SMALL.items() for word in (f"--model.init_args.{name}", value)]
    options += [
        "--run.wandb",
        "off",
        "--data.num_workers",
        "0",
        "--run.total_images",
        "32",
        "--run.log_every_images",
        "16",
        *more,
    ]
    command = ["-m", "train", "fit", "--config", f"configs/{config}.yaml", "--data.faces", str(faces)]
    subprocess.run([sys.executable, *command, "--run.folder", str(folder), *options], cwd=ROOT, check=True)


def test_the_shipped_card_is_what_the_code_writes_of_the_files_and_holds_words_only() -> None:
    for name, page in (("prior_64", "README.md"), ("gpen_64", "README.md"), ("gpen_128", "gpen_128.md")):
        file = ROOT / "weights" / f"{name}.safetensors"
        card = card_text(file, read_checkpoint(file).card)
        assert card in (ROOT / "weights" / page).read_text() and not set(card) & set("{}[]")
        assert ("identity dlib" in card) == ("no independent judgement" in card)
        assert "noise mode concat" in card and "betas 0 and 0.99" in card


def test_the_shipped_weights_stay_below_20_mb_together() -> None:
    files = [path for path in (ROOT / "weights").iterdir() if path.suffix in WEIGHTS_SUFFIXES]
    assert len(files) >= 4 and sum(path.stat().st_size for path in files) < LARGEST_BYTES


def test_interpolated_weights_lie_between_restorers_of_one_architecture() -> None:
    small = Architecture(32, 1, 0.03125, style_dim=16, num_mapping_layers=1)
    networks = [GPEN(small) for _ in range(3)]
    expected = [
        0.25 * a + 0.25 * b + 0.5 * c for a, b, c in zip(*(n.state_dict().values() for n in networks), strict=True)
    ]
    mixed = interpolate(networks[0], networks[1:], (0.25, 0.5))
    for ours, wanted in zip(mixed.state_dict().values(), expected, strict=True):
        torch.testing.assert_close(ours, wanted)
    with pytest.raises(ValueError, match=r"restorers of one architecture.*--interpolated_with"):
        interpolate(mixed, [GPEN(replace(small, resolution=64))], (0.25,))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (["A.", "B."], "25% of those after training 2."),
        (["A.", "B.", "D."], "25% of those after training 2 and another one (D)."),
        (["A.", "D.", "E."], "25% of those after training 1 and another one (D. Then E)."),
        (["D."], "25% of those of other trainings."),
    ],
)
def test_the_card_of_interpolated_weights_says_where_the_others_come_from(other: list[str], words: str) -> None:
    own, others = {"history": json.dumps(["A.", "B.", "C."])}, [{"history": json.dumps(other)}]
    (*trainings, weights) = json.loads(interpolated_card(own, others, (0.25,))["history"])
    assert (trainings, weights) == (["A.", "B.", "C."], f"Weights between them: 75% of these, {words}")
    two = json.loads(interpolated_card(own, others * 2, (0.25, 0.25))["history"])[-1]
    assert two == f"Weights between them: 50% of these, {words[:-1]}, {words}"


def test_shares_of_interpolated_weights_are_equal_unless_given_and_leave_something_to_the_run() -> None:
    release = Release(Path("A"), Path("B"), Path("faces"), "what they are", interpolated_with=(Path("C"), Path("D")))
    assert release.shares == (1 / 3, 1 / 3)
    assert replace(release, interpolated_share=(0.2, 0.3)).shares == (0.2, 0.3)
    with pytest.raises(ValueError, match="a number for each of --interpolated_with, got 1 and 2"):
        replace(release, interpolated_share=(0.2,))
    for wrong in ((0.5, 0.5), (-0.1, 0.2)):
        with pytest.raises(ValueError, match="--interpolated_share must be above 0 and below 1 together"):
            replace(release, interpolated_share=wrong)


@pytest.mark.slow
def test_published_files_hold_the_averaged_networks_and_their_card_says_what_they_are(tmp_path: Path) -> None:
    faces = tmp_path / "faces"
    faces.mkdir()
    rng = np.random.default_rng(0)
    for index in range(20):
        small = Image.fromarray(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8))
        small.resize((64, 64), Image.Resampling.BICUBIC).save(faces / f"{index}.png")
    train("prior_64", faces, tmp_path / "prior")
    start = sorted((tmp_path / "prior" / "checkpoints").iterdir())[-1]
    train("restoration_64", faces, tmp_path / "gpen", "--model.init_args.start", str(start))

    output = tmp_path / "weights"
    runs = ["--prior", str(tmp_path / "prior"), "--restoration-run", str(tmp_path / "gpen")]
    told = ["--faces", str(faces), "--data", "Random colours.", "--output", str(output), "--degradations", "small"]
    command = [sys.executable, "-m", "scripts.publish_weights", *runs, *told]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    card = (output / "README.md").read_text()
    _, metadata, _ = card.split("---\n", 2)  # what model hubs read
    assert yaml.safe_load(metadata)["pipeline_tag"] == "image-to-image"
    assert "{" not in card and "loss weights (adversarial 0." in card
    assert (
        "Random colours." in card
        and card.count("Images seen: 32 at 64 pixels, batch ") == 3
        and "gpen_64.safetensors under `small`" in card
    )
    for published, trained in (
        (load_prior(output / "prior_64.safetensors"), load_prior(start)),
        (
            load_generator(output / "gpen_64.safetensors"),
            load_generator(sorted((tmp_path / "gpen" / "checkpoints").iterdir())[-1]),
        ),
    ):
        for (name, ours), theirs in zip(published.state_dict().items(), trained.state_dict().values(), strict=True):
            assert (ours - theirs).abs().max() <= 1e-3 * max(1.0, float(theirs.abs().max())), name
    assert load_discriminator(output / "prior_64.safetensors") is not None
    with Image.open(output / "kinds.png") as picture:  # two blocks of three columns, four rows
        assert picture.width >= 6 * 128 and picture.height >= 4 * 128

    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (
        again.returncode == 2
        and again.stderr == f"error: {output} holds files already; choose another output or add --overwrite\n"
    )
    assert (output / "README.md").read_text() == card

    line = next(line for line in lines_to_run("scripts.publish_weights", in_sentences=True) if "--prior" in line.words)
    for name, target in (("A", "prior"), ("B", "gpen"), ("VALIDATION", "faces")):
        (tmp_path / name).symlink_to(tmp_path / target)
    (tmp_path / "weights" / "README.md").unlink()  # --overwrite replaces what is left of the release
    words = [sys.executable, *line.words[1:], "--interpolated_with", str(start.parents[1].with_name("gpen"))]
    done = subprocess.run(words, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 0
    again_card = (output / "README.md").read_text()
    assert "- Data: what they are" in again_card and "gpen_64.safetensors under `varied`" in again_card
    assert "Weights between them: 50% of these, 50% of those after training 2." in again_card

    # The restorer alone, in 8 bits, beside what is there, with a page of its own.
    alone = ["--restoration-run", str(tmp_path / "gpen"), *told, "--numbers", "int8", "--overwrite"]
    before = (output / "prior_64.safetensors").read_bytes()
    done = subprocess.run([sys.executable, "-m", "scripts.publish_weights", *alone], cwd=ROOT, check=False)
    assert done.returncode == 0
    assert (output / "README.md").read_text() == again_card
    assert (output / "prior_64.safetensors").read_bytes() == before
    page = (output / "gpen_64.md").read_text()
    assert "weights in 8 bits with a scale for each output channel" in page and "prior_64" not in page
    assert "gpen_64.safetensors under `small`" in page and "half precision" in again_card
    with Image.open(output / "restored_64.png") as alone_picture, Image.open(output / "restored.png") as picture:
        assert alone_picture.size == picture.size
