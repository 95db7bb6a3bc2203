"""The ways to run a network that are timed against each other."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.exported_forms import Form, runner, write_quickly_quantized
from export.static.network import StaticGPEN
from models import GPEN, Architecture


@pytest.fixture(scope="module")
def generator(random_generator: Callable[[Architecture], GPEN]) -> GPEN:
    return random_generator(Architecture(32, 1, 0.0625, "concat", 32, 2))


def test_every_way_restores_the_same_face(generator: GPEN) -> None:
    before = torch.get_num_threads()
    try:
        forms: list[Form] = [form for form in get_args(Form) if form != "static compiled"]  # takes a minute
        found = {form: runner(generator, form, num_threads=1) for form in forms}
    finally:
        torch.set_num_threads(before)
    images: dict[str, Tensor] = {}
    for name, run in found.items():
        result = run()
        images[name] = torch.from_numpy(np.asarray(result[0])) if isinstance(result, list) else torch.as_tensor(result)
    integer = images.pop("onnxruntime int8")
    for name, image in images.items():
        torch.testing.assert_close(image, images["eager"], rtol=0, atol=2e-5, msg=name)
    # Random weights are no trained network, but 8 bits must leave most of the picture.
    assert 0 < float((integer - images["eager"]).square().mean().sqrt()) < 0.2 * float(images["eager"].std())


def test_int8_has_every_convolution_in_integer_kernels(
    generator: GPEN, tmp_path: Path, kernels_of_convolutions: Callable[[Path], dict[str, int]]
) -> None:
    write_quickly_quantized(tmp_path / "int8.onnx", StaticGPEN(generator, "pixel_shuffle"))
    assert kernels_of_convolutions(tmp_path / "int8.onnx") == {"QLinearConv": (1 + 3 * 2) + 2 + 3 * 5}
