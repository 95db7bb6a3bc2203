"""The static form operation by operation, in 16-bit floating point: its images, and values close to its limits."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from export.static.graph import capture_graph, constant_names
from export.static.network import StaticGPEN

LARGEST_HALF = torch.finfo(torch.float16).max
SMALLEST_NORMAL_HALF = torch.finfo(torch.float16).smallest_normal
Observer = Callable[[fx.Node, Tensor], Tensor]
"""Gets an operation (or a constant, or the input) with its value and returns the value that others shall see."""
HEADROOM = 4.0
"""Values within this factor of the largest half count as a risk: faces that were not measured may go further."""


@dataclass(frozen=True)
class ValueRange:
    """Values that a module computed in float32, over all its operations and all images."""

    largest: float
    """Largest absolute value, those of its constants among them."""
    smallest_energy: float | None
    """For the layers under the root of the demodulation: the smallest value; None elsewhere."""

    @property
    def is_too_large(self) -> bool:
        """Whether values overflow fp16, or come close to it."""
        return not self.largest <= LARGEST_HALF / HEADROOM

    @property
    def is_too_small(self) -> bool:
        """Whether an energy vanishes in fp16, or comes close to it."""
        return self.smallest_energy is not None and self.smallest_energy < SMALLEST_NORMAL_HALF * HEADROOM


def module_of(node: fx.Node) -> str:
    """The module an operation belongs to, `` for the network itself."""
    stack = node.meta.get("nn_module_stack") or {}
    return list(stack.values())[-1][0] if stack else ""


def evaluate_graph(program: ExportedProgram, image: Tensor, observe: Observer) -> Tensor:
    """Computes a graph of `capture_graph` operation by operation: faces [N, 3, R, R] in [-1, 1] to restored ones.
    `observe` sees every tensor where it arises and may put another in its place."""
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


def simulate_half(network: StaticGPEN) -> Callable[[Tensor], Tensor]:
    """Rounds every constant, every input and the result of every operation to 16 bits.

    Sums inside a convolution stay in float32, as accelerators and mixed precision keep them. The epsilons of 1e-8
    become 0, as on any device. The network, on the CPU in float32, restores [N, 3, R, R] in [-1, 1] to float32;
    infinite or no numbers after an overflow.
    """
    program = capture_graph(network)

    @torch.no_grad()
    def run(degraded: Tensor) -> Tensor:
        return evaluate_graph(program, degraded, lambda _, value: value.half().float())

    return run


@torch.no_grad()
def record_ranges(network: StaticGPEN, images: Tensor) -> dict[str, ValueRange]:
    """Records the values of every module while a network on the CPU restores faces [N, 3, R, R] in [-1, 1] one by one
    in float32, by the name of the module in which an operation stands, as they run; `` is the network's own."""
    program = capture_graph(network)
    constants = constant_names(program)
    largest: dict[str, float] = {}
    energies: dict[str, float] = {}

    def note(node: fx.Node, value: Tensor) -> Tensor:
        name = constants[node.name].rpartition(".")[0] if node.name in constants else module_of(node)
        largest[name] = max(largest.get(name, 0.0), float(value.abs().max()))
        if name.endswith("energy") and node.op == "call_function":
            energies[name] = min(energies.get(name, float("inf")), float(value.min()))
        return value

    for image in images.split(1):
        evaluate_graph(program, image, note)
    return {name: ValueRange(value, energies.get(name)) for name, value in largest.items()}


def half_risks(ranges: Mapping[str, ValueRange]) -> list[str]:
    """What may go wrong in 16 bits with ranges of `record_ranges`, in one sentence each; nothing if all are far from
    the limits."""
    risks = []
    for name, values in ranges.items():
        if values.is_too_large:
            word = "overflows" if not values.largest <= LARGEST_HALF else "comes close to overflow in"
            risks.append(
                f"{name or 'the network'} {word} fp16: values up to {values.largest:.4g}, 65504 is the largest"
            )
        if values.is_too_small:
            risks.append(
                f"{name} may divide by zero in fp16: its smallest sum of squares is {values.smallest_energy:.3g} and "
                "the epsilon beside it becomes 0; keep this layer and its square root in float32"
            )
    return risks
