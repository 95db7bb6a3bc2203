"""Which layer of the static form is number i for a compiler, and what each one costs.

TVM's `relay.quantize`, from which the VACC compiler is derived, numbers the calls of nn.conv2d from 0 while it walks
back from the output of the graph and visits the operands of an operation from left to right before the operation
itself. Depthwise convolutions (the FIR filters) count; transposed convolutions and linear layers are other operators
and do not. `exclude_layers` and `skip_conv_layers` mean these numbers.

Source: apache/tvm, python/tvm/relay/quantize/quantize.py (QuantizeContext.check_to_skip); the public network agrees:
its encoder, 1 + 7·2 convolutions with the filters, is known there as layers 0 to 14.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from torch import fx, nn

from export.static.graph import capture_graph, constant_names
from export.static.network import StaticGPEN

LayerKind = Literal["convolution", "depthwise convolution", "transposed convolution", "linear"]


@dataclass(frozen=True)
class Layer:
    """A layer with a constant weight."""

    name: str
    """Of the module in `StaticGPEN`, such as `blocks.0.up.convolution.transposed`."""
    kind: LayerKind
    """What it computes."""
    conv2d_index: int | None
    """Number among the nn.conv2d calls; None for transposed convolutions and linear layers, which have none."""
    weight_shape: tuple[int, ...]
    """As PyTorch stores it."""
    output_shape: tuple[int, ...]
    """For one image."""
    flops: int
    """For one image; a multiplication and an addition are two, the bias is left out."""
    parameters: int
    """Values of weight and bias."""


def map_layers(network: StaticGPEN) -> tuple[Layer, ...]:
    """Lists the layers of a network as a compiler meets them.

    Args:
        network: The static form, on any device; its weights are not read.

    Returns:
        Every convolution and linear layer, from input to output.

    Raises:
        ValueError: A weight is computed at run time, so that a compiler could not quantize it.
    """
    program = capture_graph(network)
    constants = constant_names(program)
    layers: list[Layer] = []
    num_convolutions = 0
    for node in _post_order(program.graph):
        if node.target not in _OPERATORS:
            continue
        weight = node.args[1]
        if not isinstance(weight, fx.Node) or weight.name not in constants:
            raise ValueError(f"the weight of {node.name} must be a constant, it is computed at run time ({weight})")
        name = constants[weight.name].rpartition(".")[0]
        layer = _layer(node, name, network.get_submodule(name), num_convolutions)
        num_convolutions += layer.conv2d_index is not None
        layers.append(layer)
    return tuple(layers)


_OPERATORS = {
    torch.ops.aten.conv2d.default,
    torch.ops.aten.conv_transpose2d.input,
    torch.ops.aten.linear.default,
}
"""Operators with a weight as their second operand."""


def _layer(node: fx.Node, name: str, module: nn.Module, index: int) -> Layer:
    """Describes a call of an operator."""
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
    return Layer(name, kind, number, weight, output, 2 * places * prod(weight), values)


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
