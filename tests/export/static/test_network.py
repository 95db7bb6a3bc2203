"""The static form against the trained network."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from export.formats.artefacts import parity_images
from export.formats.options import ParityFaces
from export.static.network import StaticGPEN, Upsampling
from models import GPEN, Architecture, NoiseMode
from models.architecture import FedConvolutions

MODES: tuple[NoiseMode, ...] = ("concat", "add", "none")
NOT_STATIC = {"aten::size", "prim::NumToTensor", "aten::Int", "prim::If", "prim::Loop", "prim::CallFunction"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("upsampling", ["transposed", "pixel_shuffle"])
@pytest.mark.parametrize(("resolution", "narrow"), [(64, 0.0625), (128, 0.0625), (256, 0.03125), (512, 0.0625)])
def test_static_form_restores_degraded_photographs_like_the_trained_network(
    photographs: Path,
    random_generator: Callable[[Architecture], GPEN],
    mode: NoiseMode,
    upsampling: Upsampling,
    resolution: int,
    narrow: float,
) -> None:
    generator = random_generator(Architecture(resolution, 1, narrow, mode, 64, 2))
    faces = parity_images(ParityFaces(photographs, images=2), resolution)
    with torch.no_grad():
        expected = generator(faces)
        assert 0.3 < float(expected.abs().max()) < 10
        torch.testing.assert_close(StaticGPEN(generator, upsampling)(faces), expected, rtol=0, atol=1e-5)


def test_static_form_is_a_copy_that_is_not_trained(
    random_generator: Callable[[Architecture], GPEN], images: torch.Tensor
) -> None:
    generator = random_generator(Architecture(64, 1, 0.0625, "add", 64, 2))
    static = StaticGPEN(generator)
    with torch.no_grad():
        before = static(images)
        for parameter in generator.parameters():
            parameter.add_(1)
        assert torch.equal(static(images), before)
    assert not any(parameter.requires_grad for parameter in static.parameters())


@pytest.mark.parametrize("mode", MODES)
def test_trace_reads_no_shapes_takes_no_branches_and_computes_no_convolution_weights(
    generators: dict[NoiseMode, GPEN], images: torch.Tensor, mode: NoiseMode
) -> None:
    with pytest.warns((DeprecationWarning, FutureWarning), match="deprecated"), torch.no_grad():
        graph = torch.jit.trace(StaticGPEN(generators[mode]), images[:1]).inlined_graph
    nodes = list(graph.nodes())
    assert not NOT_STATIC & {node.kind() for node in nodes}
    convolutions = [node for node in nodes if node.kind() == "aten::_convolution"]
    weights = [list(node.inputs())[1].node().kind() for node in convolutions]
    # 5 in the encoder with 4 filters; 5 plain, 4 upsampling with 4 filters, 5 ToRGB with 4 upsamplings of the image.
    assert len(weights) == 9 + 5 + 8 + 9
    assert set(weights) == {"prim::GetAttr"}


def test_one_linear_layer_computes_all_modulations(generators: dict[NoiseMode, GPEN]) -> None:
    generator = generators["concat"]
    static = StaticGPEN(generator)
    style = torch.randn(2, 64)
    synthesis = generator.decoder.synthesis
    with torch.no_grad():
        expected = []
        for block in synthesis.blocks:
            for layer in (block.up, block.plain, block.to_rgb):
                expected += [] if layer is None else [layer.convolution.modulation(style)]
        torch.testing.assert_close(static.modulation(style), torch.cat(expected, dim=1), rtol=1e-5, atol=1e-5)
    linears = [name for name, module in static.named_modules() if isinstance(module, nn.Linear)]
    assert len([name for name in linears if "energy" not in name]) == 1 + 1 + 2  # latent, modulation, mapping


def test_a_trace_made_for_one_image_restores_any_number(
    generators: dict[NoiseMode, GPEN], images: torch.Tensor
) -> None:
    with pytest.warns((DeprecationWarning, FutureWarning), match="deprecated"), torch.no_grad():
        traced = torch.jit.trace(StaticGPEN(generators["concat"]), images[:1])
        torch.testing.assert_close(traced(images), generators["concat"](images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fed", ["first", "second"])
def test_static_form_leaves_the_same_convolutions_without_features(
    random_generator: Callable[[Architecture], GPEN], images: torch.Tensor, mode: NoiseMode, fed: FedConvolutions
) -> None:
    generator = random_generator(Architecture(64, 1, 0.0625, mode, 64, 2, fed))
    with torch.no_grad():
        torch.testing.assert_close(StaticGPEN(generator)(images), generator(images), rtol=0, atol=1e-5)
