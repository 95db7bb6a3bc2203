"""A tiny restorer with random weights and a few drawn faces, made once."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import command_line
from models import GPEN, Architecture, save_release

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Release file of a random 32-pixel GPEN."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("release") / "gpen.safetensors"
    save_release(path, GPEN(Architecture(resolution=32, channel_multiplier=1, narrow=1 / 32, style_dim=16)))
    return path


@pytest.fixture
def faces_folder(tmp_path: Path) -> Path:
    """Five smooth coloured images of two sizes, one in a sub folder."""
    folder = tmp_path / "faces"
    (folder / "more").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for index in range(5):
        coarse = Image.fromarray(generator.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        size = 32 + 8 * (index % 2)
        coarse.resize((size, size), Image.Resampling.BICUBIC).save(
            folder / ("more" if index == 4 else ".") / f"{index}.png"
        )
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command's main with arguments; gives exit code, stdout and stderr."""

    def run_main(main: Callable[[], None], *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_info:
            command_line.run(main)
        output = capsys.readouterr()
        code = exit_info.value.code
        return code if isinstance(code, int) else 1, output.out, output.err

    return run_main
