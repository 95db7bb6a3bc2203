"""The static form as a graph of operations that can be read and evaluated one by one."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from export.static.network import StaticGPEN

Observer = Callable[[fx.Node, Tensor], Tensor]
"""Gets an operation (or a constant, or the input) with its value and returns the value that others shall see."""


def capture_graph(network: StaticGPEN) -> ExportedProgram:
    """Follows one image through a network on any device; shapes only, nothing is computed."""
    resolution = network.architecture.resolution
    image = torch.empty(1, 3, resolution, resolution, device=network.constant.device)
    return torch.export.export(network, (image,))


def constant_names(program: ExportedProgram) -> dict[str, str]:
    """Name of each node that is a constant of the network, to the name of its parameter."""
    return dict(program.graph_signature.inputs_to_parameters)


def module_of(node: fx.Node) -> str:
    """The module an operation belongs to, `` for the network itself."""
    stack = node.meta.get("nn_module_stack") or {}
    return list(stack.values())[-1][0] if stack else ""


def evaluate_graph(program: ExportedProgram, image: Tensor, observe: Observer) -> Tensor:
    """Computes a graph operation by operation.

    Args:
        program: From `capture_graph`.
        image: Degraded faces [N, 3, R, R] in [-1, 1].
        observe: Sees every tensor where it arises and may put another in its place.

    Returns:
        Restored faces [N, 3, R, R].
    """
    constants = constant_names(program)
    values: dict[fx.Node, Any] = {}
    readers = Counter({node: len(node.users) for node in program.graph.nodes})

    def take(node: fx.Node) -> Any:
        return values[node]

    for node in program.graph.nodes:
        if node.op == "output":
            break
        if node.op == "placeholder":
            values[node] = observe(node, program.state_dict[constants[node.name]] if node.name in constants else image)
            continue
        result = node.target(*fx.map_arg(node.args, take), **fx.map_arg(node.kwargs, take))
        values[node] = observe(node, result) if isinstance(result, Tensor) else result
        for operand in node.all_input_nodes:  # large features are kept no longer than they are needed
            readers[operand] -= 1
            if not readers[operand]:
                del values[operand]
    return values[program.graph.output_node().all_input_nodes[0]]
