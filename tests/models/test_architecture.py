"""The channel table of the public models and what is refused."""

import pytest

from models import Architecture

PUBLIC_CHANNELS = {
    "BFR-512": (Architecture(512, 2, 1.0), (512, 512, 512, 512, 512, 256, 128, 64)),
    "BFR-256": (Architecture(256, 1, 0.5), (256, 256, 256, 256, 128, 64, 32)),
    "BFR-1024": (Architecture(1024, 2, 1.0), (512, 512, 512, 512, 512, 256, 128, 64, 32)),
    "BFR-2048": (Architecture(2048, 2, 1.0), (512, 512, 512, 512, 512, 256, 128, 64, 32, 16)),
}


@pytest.mark.parametrize("model", PUBLIC_CHANNELS)
def test_channels_of_the_public_models_are_those_of_their_table(model: str) -> None:
    architecture, expected = PUBLIC_CHANNELS[model]
    assert tuple(architecture.channels(r) for r in architecture.resolutions) == expected


def test_a_fraction_of_a_channel_is_dropped() -> None:
    architecture = Architecture(64, 1, 0.0135)
    assert [architecture.channels(r) for r in architecture.resolutions] == [6, 6, 6, 6, 3]  # 6.9 and 3.5


@pytest.mark.parametrize(("resolution", "resolutions", "num_styles"), [(32, 4, 8), (256, 7, 14), (512, 8, 16)])
def test_there_are_two_styles_for_every_resolution(resolution: int, resolutions: int, num_styles: int) -> None:
    architecture = Architecture(resolution)
    assert len(architecture.resolutions) == resolutions
    assert (architecture.resolutions[0], architecture.resolutions[-1]) == (4, resolution)
    assert architecture.num_styles == num_styles


def test_noise_doubles_the_features_only_where_it_is_concatenated() -> None:
    by_mode = {mode: Architecture(64, 1, 0.5, mode) for mode in ("concat", "add", "none")}
    assert {mode: a.features(64) for mode, a in by_mode.items()} == {"concat": 256, "add": 128, "none": 128}
    assert {mode: by_mode[mode].noise_channels(64) for mode in ("concat", "add")} == {"concat": 128, "add": 1}


def test_all_problems_are_named_together_in_one_line() -> None:
    with pytest.raises(ValueError) as raised:
        Architecture(500, 0, 0.0, "multiply", 0, 0)  # type: ignore[arg-type]
    assert str(raised.value).split("; ") == [
        "resolution must be a power of two from 32 to 2048, got 500",
        "crop or resize the faces first",
        "channel_multiplier must be from 1 to 8, got 0",
        "narrow must be from 1/128 to 8, got 0.0",
        "noise_mode must be concat, add or none, got multiply",
        "style_dim must be from 1 to 4096, got 0",
        "num_mapping_layers must be from 1 to 64, got 0",
    ]


@pytest.mark.parametrize("resolution", [-64, 0, 16, 96, 4096])
def test_other_resolutions_are_refused(resolution: int) -> None:
    with pytest.raises(ValueError, match=rf"^resolution must be a power of two from 32 to 2048, got {resolution};"):
        Architecture(resolution)


@pytest.mark.parametrize("narrow", [float("nan"), float("inf"), -1.0, 9.0])
def test_widths_that_are_no_sensible_numbers_are_refused(narrow: float) -> None:
    with pytest.raises(ValueError, match=f"^narrow must be from 1/128 to 8, got {narrow}$"):
        Architecture(64, narrow=narrow)


def test_a_layer_without_channels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^narrow 0.0078125 leaves a layer without channels; raise it$"):
        Architecture(512, 1, 1 / 128)
