"""The static form as a graph: which is layer i for a compiler, what each costs, and each operation in 16-bit floating
point: its images, and values close to its limits."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
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
