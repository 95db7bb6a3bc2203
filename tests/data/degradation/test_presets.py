"""Preset files: the published numbers, their sources, and messages for wrong files."""

from pathlib import Path

import pytest
from jsonargparse import ArgumentParser

from data.degradation.presets import PRESETS_FOLDER, DegradationRanges, load_preset, preset_names


def test_the_presets_are_those_of_the_literature_three_of_ours_and_a_task_each() -> None:
    usual = ["codeformer", "difface", "diffbir", "paper", "real_esrgan", "released", "second_order", "small", "varied"]
    assert preset_names() == sorted([*usual, "colorization", "inpainting", "super_resolution_4"])


@pytest.mark.parametrize(
    ("name", "sigma", "downscale", "noise", "quality", "grey"),
    [
        ("released", (0.1, 10), (0.8, 8), (0, 20), (60, 100), 0.2),
        ("codeformer", (0.1, 10), (1, 12), (0, 15), (60, 100), 0),
        ("diffbir", (0.1, 12), (1, 12), (0, 15), (30, 100), 0),
        ("difface", (0.1, 15), (0.8, 32), (0, 20), (30, 100), 0.01),
        ("paper", (0.1, 10), (1, 20), (0, 25), (5, 50), 0),
    ],
)
def test_presets_hold_the_published_numbers(
    name: str,
    sigma: tuple[float, float],
    downscale: tuple[float, float],
    noise: tuple[float, float],
    quality: tuple[int, int],
    grey: float,
) -> None:
    ranges = load_preset(name)
    assert ranges.second is None
    assert ranges.first.blur.kernel_size_pixels == 41
    assert ranges.first.blur.sigma_range == sigma
    assert ranges.first.blur.isotropic_probability == 0.5
    assert (ranges.first.downscale_range, ranges.first.noise_sigma_range) == (downscale, noise)
    assert ranges.first.jpeg_quality_range == quality
    assert (ranges.color.grey_probability, ranges.color.grey_target) == (grey, True)


@pytest.mark.parametrize("name", preset_names())
def test_every_number_of_a_preset_has_a_comment_that_names_its_source(name: str) -> None:
    for line in (PRESETS_FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
        value, _, comment = line.partition("#")
        if value.strip() and not value.rstrip().endswith(":"):
            assert comment.strip(), line


def test_a_preset_is_an_argument_of_a_command_line_and_can_be_changed_there() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--degradation", type=DegradationRanges)
    path = str(PRESETS_FOLDER / "small.yaml")
    parsed = parser.parse_args([f"--degradation={path}", "--degradation.first.downscale_range=[2, 3]"])
    ranges = parser.instantiate(parsed).degradation
    assert ranges.first.downscale_range == (2, 3)
    assert ranges.first.blur == load_preset("small").first.blur


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(FileNotFoundError, match=r"named smal; the presets are codeformer, .*, small"):
        load_preset("smal")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("firs: {blur: {}}", "preset has no key firs, only first, second"),
        ("first: {blur: {sigma: [1, 2]}}", "preset.first.blur has no key sigma, only probability"),
        ("first: {noise_sigma_range: [1]}", "2 elements"),
        ("first: {jpeg_quality_range: [60, 99.5]}", "jpeg_quality_range"),
        ("first: {jpeg_quality_range: [0, 300]}", "1 <= low <= high <= 100"),
        ("first: 3", "preset.first must hold keys and values, got '3'"),
        ("color: null", "preset.color must have a value, got null"),
        ("second: [blur]", "preset.second must hold keys"),
        ("first: {blur: 3}", "preset.first.blur must hold keys"),
        ("", "preset must hold keys"),
        ("[", "is not YAML"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"wrong\.yaml") as caught:
        load_preset(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
