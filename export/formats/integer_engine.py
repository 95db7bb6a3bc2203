"""The quantized network for a real integer engine: ONNX with QuantizeLinear and DequantizeLinear for onnxruntime.

onnxruntime joins DequantizeLinear → Conv → QuantizeLinear into QLinearConv, its integer kernel, if input, weight, bias
and output all have steps. Its own quantizer chooses steps itself and gives a rounded tensor to all readers; here every
step is the simulation's and only convolutions read codes, so that simulation and engine compute the same. ConvTranspose
has no integer kernel on CPUs: it stays in float whatever stands around it, so the PixelShuffle form is what runs in
integers.

The file has to be right wherever it runs. On x86 processors without VNNI onnxruntime adds two products in 16 bits that
saturate. Unsigned weights would avoid these kernels, and with them every fast one (slower than float where VNNI is
there). So weights are signed, with steps that leave no two codes of a row able to overflow.

Source: onnxruntime.ai, "Quantize ONNX models", on VPMADDUBSW and `session.x64quantprecision`, which nobody needs here.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, helper, numpy_helper
from torch import Tensor, nn

from export.formats.artefacts import write_onnx
from export.int8.simulation import Grids
from export.static.network import StaticGPEN
from models.quantization import LARGEST_PAIR, LEVELS, Codes, ConvolutionGrid, along, bias_codes, codes, largest_pairs
from system.atomic_file import replacing

OPSET = 17


def write_integer_onnx(path: Path, network: StaticGPEN, grids: Grids) -> None:
    """Writes a network on the CPU, the static form with `pixel_shuffle`, whose convolutions onnxruntime computes in
    integers where they have steps in `grids`, outputs included. ValueError where the network upsamples by transposed
    convolutions, a grid has no step for its output, or its codes could overflow 16 bits."""
    if network.upsampling != "pixel_shuffle":
        raise ValueError(
            "the network must upsample by PixelShuffle, got transposed convolutions, for which onnxruntime has no "
            'integer kernel; build it with StaticGPEN(generator, "pixel_shuffle")'
        )
    with tempfile.TemporaryDirectory() as folder:
        write_onnx(Path(folder) / path.name, network, OPSET)
        model = onnx.load(Path(folder) / path.name)
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        name = module_name(node)
        if node.op_type == "Conv" and name in grids:
            nodes += _quantized(node, cast(nn.Conv2d, network.get_submodule(name)), grids[name], model.graph)
        else:
            nodes.append(node)
    _replace_nodes(model.graph, _joined_as_codes(nodes))
    onnx.checker.check_model(model, full_check=True)
    with replacing(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def module_name(node: NodeProto) -> str:
    """Name of the module that a node of `export.formats.artefacts.write_onnx` came from."""
    return node.name.strip("/").rpartition("/")[0].replace("/", ".")


def _quantized(node: NodeProto, convolution: nn.Conv2d, grid: ConvolutionGrid, graph: GraphProto) -> list[NodeProto]:
    if grid.output_step is None:
        raise ValueError(f"{node.name} must have a step for its output; choose its grid for the target onnxruntime")
    name, bias_step = node.name, grid.input_step * grid.weight_step
    weight = codes(convolution.weight, along(grid.weight_step, 0))
    if float(largest_pairs(weight, 0).max()) > LARGEST_PAIR:
        raise ValueError(
            f"two codes of {node.name} must add up to {LARGEST_PAIR} at most, or their products overflow 16 bits on "
            "processors without VNNI; choose its grid for the target onnxruntime"
        )
    rounded_input = _rounding(graph, node.input[0], f"{name}_input", f"{name}_input", grid.input_step, grid.input_codes)
    constants = [_constant(graph, f"{name}_weight", weight.numpy().astype(np.int8), grid.weight_step)]
    if convolution.bias is not None:
        bias = bias_codes(convolution.bias.double(), bias_step.double()).numpy().astype(np.int32)
        constants.append(_constant(graph, f"{name}_bias", bias, bias_step))
    operands = [f"{name}_input", *(constant.output[0] for constant in constants)]
    integer = helper.make_node("Conv", operands, [f"{name}_output"], name)
    integer.attribute.extend(node.attribute)
    output_step, output_codes = grid.output_step, grid.output_codes
    rounded_output = _rounding(graph, f"{name}_output", node.output[0], f"{name}_output", output_step, output_codes)
    return [*rounded_input, *constants, integer, *rounded_output]


def _rounding(graph: GraphProto, source: str, result: str, name: str, step: Tensor, ends: Codes) -> list[NodeProto]:
    step_name, zero_name, zero = f"{name}_step", f"{name}_zero", zero_point(ends)
    graph.initializer.append(numpy_helper.from_array(step.numpy(), step_name))
    graph.initializer.append(numpy_helper.from_array(np.array(zero, np.int8), zero_name))
    return [
        helper.make_node("QuantizeLinear", [source, step_name, zero_name], [f"{name}_codes"], f"{name}_round"),
        helper.make_node("DequantizeLinear", [f"{name}_codes", step_name, zero_name], [result], f"{name}_read"),
    ]


def zero_point(ends: Codes) -> int:
    """The signed byte that stands for 0 where the lowest byte stands for the first code."""
    return -LEVELS - ends[0]


def _constant(graph: GraphProto, name: str, values: np.ndarray, steps: Tensor) -> NodeProto:
    """Reads the codes of a constant, whose first dimension has its own steps."""
    for suffix, array in (("codes", values), ("step", steps.numpy()), ("zero", np.zeros(len(values), values.dtype))):
        graph.initializer.append(numpy_helper.from_array(array, f"{name}_{suffix}"))
    operands = [f"{name}_{suffix}" for suffix in ("codes", "step", "zero")]
    return helper.make_node("DequantizeLinear", operands, [name], f"{name}_read", axis=0)


def _joined_as_codes(nodes: list[NodeProto]) -> list[NodeProto]:
    """Rounds the parts of concatenated features before they are joined.

    Q(leaky(cat(a, b)) · s) = cat(Q(leaky(a) · s_a), Q(leaky(b) · s_b)): the same codes, but bytes are joined instead of
    floats, which would take a seventh of the time of the whole network.
    """
    producers = {name: node for node in nodes for name in node.output}
    activated: set[str] = set()
    joined: list[NodeProto] = []
    for node in nodes:
        chain = _modulated_features(node, producers)
        joined += [node] if chain is None else _rounded_parts(node, *chain, activated)
    return joined


def _modulated_features(
    rounding: NodeProto, producers: Mapping[str, NodeProto]
) -> tuple[NodeProto, NodeProto, NodeProto] | None:
    """The product, activation and concatenation that a rounding follows; None if it follows something else."""
    if rounding.op_type != "QuantizeLinear":
        return None
    chain = [rounding]
    for kind in ("Mul", "LeakyRelu", "Concat"):
        node = producers.get(chain[-1].input[0])
        if node is None or node.op_type != kind:
            return None
        chain.append(node)
    return chain[1], chain[2], chain[3]


def _rounded_parts(
    rounding: NodeProto, product: NodeProto, activation: NodeProto, features: NodeProto, activated: set[str]
) -> list[NodeProto]:
    """Activation, modulation and rounding of each part; `activated` are those that have their activation already."""
    name, steps = rounding.name, rounding.input[1:]
    parts = [f"{name}_{index}" for index in range(len(features.input))]
    nodes = [helper.make_node("Split", [product.input[1]], [f"{p}_scale" for p in parts], f"{name}_split", axis=1)]
    for source, part in zip(features.input, parts, strict=True):
        active = f"{source}_active"
        if source not in activated:
            activated.add(source)
            nodes.append(helper.make_node("LeakyRelu", [source], [active], active))
            nodes[-1].attribute.extend(activation.attribute)
        nodes += [
            helper.make_node("Mul", [active, f"{part}_scale"], [f"{part}_product"], f"{part}_product"),
            helper.make_node("QuantizeLinear", [f"{part}_product", *steps], [f"{part}_codes"], f"{part}_round"),
            helper.make_node("DequantizeLinear", [f"{part}_codes", *steps], [part], f"{part}_read"),
        ]
    # Rounding what is rounded already changes nothing; onnxruntime makes one copy of bytes of it and the readings.
    nodes.append(helper.make_node("Concat", parts, [f"{name}_joined"], f"{name}_join", axis=1))
    nodes.append(helper.make_node("QuantizeLinear", [f"{name}_joined", *steps], rounding.output, name))
    return nodes


def _replace_nodes(graph: GraphProto, nodes: list[NodeProto]) -> None:
    outputs = {output.name for output in graph.output}
    used: set[str] = set(outputs)
    kept = []
    for node in reversed(nodes):  # readers come after what they read
        if used & set(node.output):
            kept.append(node)
            used |= set(node.input)
    constants = [constant for constant in graph.initializer if constant.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(constants)
