"""Numbers of layers as a compiler counts them, against the artefacts a compiler reads."""

import copy
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from export.formats.artefacts import write_onnx, write_torchscript
from export.static.graph import map_layers
from export.static.network import StaticGPEN, Upsampling
from inference.restorers import accepted_deprecations
from models import GPEN, Architecture, NoiseMode

FORMS: tuple[Upsampling, ...] = ("transposed", "pixel_shuffle")
NOT_TRAINED = ("energy", "low_pass", "image_upsampling")
"""Modules of the static form whose constants follow from others or from the FIR kernel."""


def conv2d_weights(path: Path) -> list[Tensor]:
    """Weights of the convolutions of a TorchScript file that are not transposed, in the order of execution."""
    with accepted_deprecations():
        network = torch.jit.load(path)
    weights = []
    for node in network.inlined_graph.nodes():
        inputs = list(node.inputs())
        if node.kind() == "aten::_convolution" and not inputs[6].toIValue():
            names, value = [], inputs[1].node()
            while value.kind() == "prim::GetAttr":
                names.append(value.s("name"))
                value = next(iter(value.inputs())).node()
            found: object = network
            for name in reversed(names):
                found = getattr(found, name)
            assert isinstance(found, Tensor)
            weights.append(found.detach())
    return weights


@pytest.mark.parametrize("form", FORMS)
def test_changing_a_layer_changes_the_convolution_of_its_index_and_no_other(
    generators: dict[NoiseMode, GPEN], tmp_path: Path, form: Upsampling
) -> None:
    network = StaticGPEN(generators["concat"], form)
    write_torchscript(tmp_path / "before.pt", network)
    before = conv2d_weights(tmp_path / "before.pt")
    numbered = [layer for layer in map_layers(network) if layer.conv2d_index is not None]
    assert [layer.conv2d_index for layer in numbered] == list(range(len(before)))
    for layer in (numbered[0], numbered[7], numbered[len(numbered) // 2], numbered[-1]):
        changed = copy.deepcopy(network)
        module = changed.get_submodule(layer.name)
        assert isinstance(module, nn.Conv2d)
        with torch.no_grad():
            module.weight.add_(1)
        write_torchscript(tmp_path / "after.pt", changed)
        after = conv2d_weights(tmp_path / "after.pt")
        differing = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if not torch.equal(a, b)]
        assert differing == [layer.conv2d_index], layer.name
        assert tuple(after[differing[0]].shape) == layer.weight_shape


@pytest.mark.parametrize("form", FORMS)
def test_convolutions_of_the_onnx_file_stand_in_the_same_order(
    generators: dict[NoiseMode, GPEN], tmp_path: Path, form: Upsampling
) -> None:
    network = StaticGPEN(generators["add"], form)
    write_onnx(tmp_path / "g.onnx", network, 11)
    graph = onnx.load(tmp_path / "g.onnx").graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found = [constants[node.input[1]] for node in graph.node if node.op_type == "Conv"]
    expected = [layer.name for layer in map_layers(network) if layer.conv2d_index is not None]
    assert len(found) == len(expected)
    for weight, name in zip(found, expected, strict=True):
        assert torch.equal(torch.tensor(weight), network.get_parameter(f"{name}.weight")), name


def test_everything_is_a_numbered_convolution_with_pixel_shuffle(generators: dict[NoiseMode, GPEN]) -> None:
    kinds = {layer.kind for layer in map_layers(StaticGPEN(generators["concat"], "pixel_shuffle"))}
    assert kinds == {"convolution", "depthwise convolution", "linear"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode", ["concat", "add", "none"])
def test_flops_are_those_of_pytorchs_own_counter(
    generators: dict[NoiseMode, GPEN], images: Tensor, mode: NoiseMode, form: Upsampling
) -> None:
    network = StaticGPEN(generators[mode], form)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(images[:1])
    layers = map_layers(network)
    assert sum(layer.flops for layer in layers) == counter.get_total_flops()
    by_module = {name.removeprefix("StaticGPEN."): sum(f.values()) for name, f in counter.get_flop_counts().items()}
    assert {layer.name: layer.flops for layer in layers}.items() <= by_module.items()


def test_constants_of_the_graph_are_the_trained_parameters_and_what_follows_from_them() -> None:
    with torch.device("meta"):
        network = StaticGPEN(GPEN(Architecture(512, 2, 1.0)))
    trained = [p.numel() for name, p in network.named_parameters() if not any(part in name for part in NOT_TRAINED)]
    assert sum(trained) == 71_005_223
    assert sum(layer.flops for layer in map_layers(network)) / 1e9 == pytest.approx(276.22, abs=0.005)


def test_shapes_and_order_are_those_of_the_layers_when_they_run(
    generators: dict[NoiseMode, GPEN], images: Tensor
) -> None:
    network = StaticGPEN(generators["concat"])
    layers = map_layers(network)
    seen: dict[str, tuple[int, ...]] = {}
    for layer in layers:

        def note(module: nn.Module, inputs: object, output: Tensor, name: str = layer.name) -> None:
            seen[name] = tuple(output.shape)

        network.get_submodule(layer.name).register_forward_hook(note)
    with torch.no_grad():
        network(images[:1])
    assert seen == {layer.name: layer.output_shape for layer in layers}
    convolutions = [layer.name for layer in layers if layer.kind != "linear"]
    assert [name for name in seen if name in convolutions] == convolutions


def test_a_weight_that_is_computed_at_run_time_is_refused(generators: dict[NoiseMode, GPEN]) -> None:
    class Doubled(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            return self._conv_forward(input, self.weight * 2, self.bias)

    network = StaticGPEN(generators["concat"])
    original = network.encoder.from_rgb
    doubled = Doubled(original.in_channels, original.out_channels, 1)
    doubled.load_state_dict(original.state_dict())
    network.encoder.from_rgb = doubled
    with pytest.raises(ValueError, match="computed at run time"):
        map_layers(network)
