"""The preview command: a picture with the parameters written below, one line for errors."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.degradation.presets import load_preset
from data.degradation.sampling import BlurKernel, DegradationParameters, RoundParameters, sample_parameters
from data.degradation.synthesis import degrade
from evaluation.reports.degradation_preview import describe_parameters, draw_preview
from scripts.preview_degradation import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    folder = tmp_path / "faces"
    folder.mkdir()
    for index in range(3):
        Image.new("RGB", (80, 64), (60 * index, 120, 200)).save(folder / f"{index}.png")
    return folder


def test_the_parameters_are_written_as_short_lines() -> None:
    first = RoundParameters(BlurKernel("gaussian", 21, 2.5, 1.0, angle_radians=0.5236), 4.0, 7.25, 1, 80)
    second = RoundParameters(BlurKernel("motion", 21, length_pixels=9.0), 2.0, 0.0, 1, None)
    lines = describe_parameters(DegradationParameters(256, (first, second), grey=True))
    assert lines == [
        "1. blur σ 2.50, 1.00 px at 30°",
        "s 4.0 (64 px)",
        "noise 7.2, JPEG 80",
        "2. motion 9.0 px at 0°",
        "s 2.0 (128 px)",
        "noise 0.0, no JPEG",
        "grey",
    ]


def test_the_picture_shows_target_over_degraded() -> None:
    target = torch.full((1, 3, 64, 64), -1.0)
    parameters = [sample_parameters(load_preset("small"), 0, 0, 64)]
    picture = Image.open(io.BytesIO(draw_preview(target, torch.ones_like(target), parameters, "title")))
    pixels = np.asarray(picture.convert("L"))
    column = pixels[:, pixels.shape[1] // 2]
    black = np.flatnonzero(column[45:245] == 0) + 45  # below the title, two inches of 100 pixels
    assert len(black) > 190
    assert (column[250:430] == 255).all()


def test_the_command_writes_a_picture_of_the_first_faces(run: Run, faces: Path, tmp_path: Path) -> None:
    output = tmp_path / "preview.png"
    options = ["--faces", faces, "--degradation", "small", "--resolution", 64, "--num_faces", 2]
    code, out, _ = run(main, *options, "--output", output)
    assert code == 0 and "2 faces with the degradation small" in out
    target = torch.stack([torch.full((3, 64, 64), value) for value in (0.0, 0.5)])
    parameters = [sample_parameters(load_preset("small"), 0, index, 64) for index in range(2)]
    expected = draw_preview(target, degrade(target, parameters).degraded, parameters, "other")
    with Image.open(output) as picture:
        assert picture.size == Image.open(io.BytesIO(expected)).size


def test_a_picture_is_replaced_only_when_that_is_asked_for(run: Run, faces: Path, tmp_path: Path) -> None:
    output = tmp_path / "preview.png"
    output.write_bytes(b"precious")
    options = ["--faces", faces, "--degradation", "small", "--resolution", 64, "--output", output]
    code, _, error = run(main, *options)
    assert code == 2 and "exists already; choose another name or add --overwrite" in error
    assert output.read_bytes() == b"precious"
    assert run(main, *options, "--overwrite")[0] == 0
    with Image.open(output) as picture:
        assert picture.format == "PNG"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--faces", "nowhere", "nowhere"),
        ("--degradation", "smal", "presets are codeformer"),
        ("--num-faces", "0", "--num_faces must be at least 1"),
        ("--output", "preview.jpg", "--output must be a file that ends in .png"),
    ],
)
def test_a_wrong_option_ends_with_one_line_and_code_2(
    run: Run, faces: Path, tmp_path: Path, option: str, value: str, message: str
) -> None:
    options = {"--faces": str(faces), "--output": str(tmp_path / "preview.png"), "--resolution": "64"} | {option: value}
    code, _, error = run(main, *(text for pair in options.items() for text in pair))
    assert code == 2
    assert message in error
    assert error.count("\n") == 1
