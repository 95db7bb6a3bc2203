"""The static form as a graph: which is layer i for a compiler, and what each costs."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from torch import fx, nn
from torch.export import ExportedProgram

from export.static.network import StaticGPEN, Upsampling
from models import GPEN, Architecture


def capture_graph(network: StaticGPEN) -> ExportedProgram:
    """Follows one image through a network on any device; shapes only, nothing is computed."""
    resolution = network.architecture.resolution
    image = torch.empty(1, 3, resolution, resolution, device=network.constant.device)
    return torch.export.export(network, (image,))


def constant_names(program: ExportedProgram) -> dict[str, str]:
    """Name of each node that is a constant of the network, to the name of its parameter."""
    return dict(program.graph_signature.inputs_to_parameters)


LayerKind = Literal["convolution", "depthwise convolution", "transposed convolution", "linear"]


@dataclass(frozen=True)
class Layer:
    """A layer with a constant weight."""

    name: str
    """Name of the module in `StaticGPEN`, such as `blocks.0.up.convolution.transposed`."""
    kind: LayerKind
    inputs: tuple[str, ...]
    """Layers whose outputs it computes with, directly or through operations without a weight; `input` is the face."""
    conv2d_index: int | None
    """Number among the nn.conv2d calls; None for transposed convolutions and linear layers, which have none."""
    weight_shape: tuple[int, ...]
    """As PyTorch stores it."""
    output_shape: tuple[int, ...]
    flops: int
    """For one image; a multiplication and an addition are two, the bias is left out."""
    parameters: int
    """Values of weight and bias."""


def map_layers(network: StaticGPEN) -> tuple[Layer, ...]:
    """Lists every convolution and linear layer of a network on any device, from input to output, as a compiler meets
    them. Raises ValueError where a weight is computed at run time, so that a compiler could not quantize it."""
    program = capture_graph(network)
    constants = constant_names(program)
    layers: list[Layer] = []
    num_convolutions = 0
    sources: dict[fx.Node, dict[str, None]] = {}  # names of the layers that a value was computed with, in order
    for node in _post_order(program.graph):
        sources[node] = {name: None for operand in node.all_input_nodes for name in sources[operand]}
        if node.op == "placeholder" and node.name not in constants:
            sources[node] = {"input": None}
        if node.target not in _OPERATORS:
            continue
        weight = node.args[1]
        if not isinstance(weight, fx.Node) or weight.name not in constants:
            raise ValueError(f"the weight of {node.name} must be a constant, it is computed at run time ({weight})")
        name = constants[weight.name].rpartition(".")[0]
        layer = _layer(node, network.get_submodule(name), tuple(sources[node]), name, num_convolutions)
        num_convolutions += layer.conv2d_index is not None
        sources[node] = {name: None}
        layers.append(layer)
    return tuple(layers)


_OPERATORS = {torch.ops.aten.conv2d.default, torch.ops.aten.conv_transpose2d.input, torch.ops.aten.linear.default}
"""Operators with a weight as their second operand."""


def _layer(node: fx.Node, module: nn.Module, inputs: tuple[str, ...], name: str, index: int) -> Layer:
    source, weight, output = (tuple(n.meta["val"].shape) for n in (*node.all_input_nodes[:2], node))
    kind: LayerKind = "linear"
    if node.target is torch.ops.aten.conv2d.default:
        kind = "convolution" if weight[1] > 1 or output[1] == 1 else "depthwise convolution"
    elif node.target is torch.ops.aten.conv_transpose2d.input:
        kind = "transposed convolution"
    # Every pixel of the input of a transposed convolution meets the whole weight, elsewhere every pixel of the output.
    places = prod(source[2:]) if kind == "transposed convolution" else prod(output[2:])
    values = sum(parameter.numel() for parameter in module.parameters(recurse=False))
    number = index if kind in ("convolution", "depthwise convolution") else None
    return Layer(name, kind, inputs, number, weight, output, 2 * places * prod(weight), values)


def _post_order(graph: fx.Graph) -> Iterator[fx.Node]:
    """Every operation after its operands, these from left to right, beginning with what the output needs."""
    pending = [(graph.output_node(), False)]
    visited: set[fx.Node] = set()
    while pending:
        node, operands_are_done = pending.pop()
        if operands_are_done:
            yield node
        elif node not in visited:
            visited.add(node)
            pending.append((node, True))
            pending += [(operand, False) for operand in reversed(node.all_input_nodes)]


_KINDS = (
    ("encoder low-pass filters", r"^encoder\.low_passes"),
    ("latent and style", r"to_latent|mapping"),
    ("encoder convolutions", r"^encoder"),
    ("modulation and demodulation", r"modulation|energy"),
    ("learned constant", r"constant$"),
    ("decoder low-pass filters", r"low_pass|image_upsampling"),
    ("ToRGB convolutions", r"to_rgb"),
    ("decoder upsampling layers", r"\.up\."),
    ("decoder plain layers", r"first_layer|\.plain\."),
)
"""Kind of layer; what its modules (static form) and parameters (trained network) are called. The first match counts."""


@dataclass(frozen=True)
class KindCost:
    """What the layers of one kind cost together."""

    kind: str
    num_layers: int
    """Layers that compute, in the static form."""
    flops: int
    """Cost of one image; a multiplication and an addition are two."""
    parameters: int
    """Trained values."""


@dataclass(frozen=True)
class Cost:
    """What restoring one image costs."""

    flops: int
    """Convolutions and linear layers; a multiplication and an addition are two. Elementwise operations are left out."""
    parameters: int
    """Trained values of the network, those of the public implementation."""
    kinds: tuple[KindCost, ...]
    """FLOPs and parameters by kind of layer, from input to output."""


def count_cost(architecture: Architecture, upsampling: Upsampling = "transposed") -> Cost:
    """Counts what the static form of a network computes for one image; without memory for weights or features.
    PixelShuffle computes more than transposed convolutions."""
    with torch.device("meta"), torch.no_grad():
        generator = GPEN(architecture)
        layers = map_layers(StaticGPEN(generator, upsampling))
    parameters = {name: parameter.numel() for name, parameter in generator.named_parameters()}
    kinds = tuple(
        KindCost(
            kind,
            sum(1 for layer in layers if _kind(layer.name) == kind),
            sum(layer.flops for layer in layers if _kind(layer.name) == kind),
            sum(number for name, number in parameters.items() if _kind(name) == kind),
        )
        for kind, _ in _KINDS
    )
    return Cost(sum(layer.flops for layer in layers), sum(parameters.values()), kinds)


def _kind(name: str) -> str:
    return next((kind for kind, pattern in _KINDS if re.search(pattern, name)), "other")
