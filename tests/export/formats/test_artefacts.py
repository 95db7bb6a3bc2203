"""The exported files."""

import warnings
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from export.formats.artefacts import write_onnx, write_torchscript
from export.static.network import StaticGPEN
from models import GPEN, NoiseMode, load_generator, save_release


@pytest.mark.parametrize("mode", ["concat", "add", "none"])
@pytest.mark.parametrize("opset", [11, 17, 20])
def test_onnx_runs_at_the_stated_opset_with_constant_convolution_weights(
    generators: dict[NoiseMode, GPEN], images: Tensor, tmp_path: Path, mode: NoiseMode, opset: int
) -> None:
    write_onnx(tmp_path / "g.onnx", StaticGPEN(generators[mode]), opset)
    model = onnx.load(tmp_path / "g.onnx")
    assert [(one.domain, one.version) for one in model.opset_import] == [("", opset)]
    constants = {tensor.name for tensor in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    assert len(convolutions) == 31
    assert all(node.input[1] in constants for node in convolutions)
    assert not {"Shape", "Identity", "If", "Loop", "Cast", "Expand"} & {node.op_type for node in model.graph.node}
    session = onnxruntime.InferenceSession(tmp_path / "g.onnx", providers=["CPUExecutionProvider"])
    described = [(v.name, v.shape, v.type) for v in (*session.get_inputs(), *session.get_outputs())]
    shape = [1, 3, 64, 64]
    assert described == [("input", shape, "tensor(float)"), ("output", shape, "tensor(float)")]
    (restored,) = session.run(["output"], {"input": images[:1].numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(restored), generators[mode](images[:1]), rtol=0, atol=2e-5)


def test_torchscript_takes_input_by_name_and_returns_one_tensor(
    generators: dict[NoiseMode, GPEN], images: Tensor, tmp_path: Path
) -> None:
    write_torchscript(tmp_path / "g.pt", StaticGPEN(generators["concat"]))
    with pytest.warns((DeprecationWarning, FutureWarning), match="deprecated"):
        network = torch.jit.load(tmp_path / "g.pt")
    assert [a.name for a in network.forward.schema.arguments] == ["self", "input"]
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    with torch.no_grad():
        torch.testing.assert_close(network(input=images), generators["concat"](images), rtol=0, atol=1e-5)


def test_safetensors_hold_every_bit_of_the_weights(generators: dict[NoiseMode, GPEN], tmp_path: Path) -> None:
    save_release(tmp_path / "g.safetensors", generators["add"], card={"data": "none"}, numbers="float32")
    loaded = load_generator(tmp_path / "g.safetensors").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in generators["add"].state_dict().items())


def test_writing_warns_of_nothing(generators: dict[NoiseMode, GPEN], tmp_path: Path) -> None:
    network = StaticGPEN(generators["concat"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_torchscript(tmp_path / "g.pt", network)
        write_onnx(tmp_path / "g.onnx", network)


@pytest.mark.parametrize("opset", [10, 21])
def test_an_opset_out_of_range_is_named_with_the_range(
    generators: dict[NoiseMode, GPEN], tmp_path: Path, opset: int
) -> None:
    with pytest.raises(ValueError, match=f"from 11 to 20, got {opset}"):
        write_onnx(tmp_path / "g.onnx", StaticGPEN(generators["none"]), opset)
    assert list(tmp_path.iterdir()) == []
