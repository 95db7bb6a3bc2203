"""Whatever restores faces, loaded from files."""

import resource
import zipfile
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from export.formats.artefacts import write_onnx, write_torchscript
from export.static.network import StaticGPEN
from inference.restorers import accepted_deprecations, load_restorer
from models import GPEN, Architecture, NoiseMode, Prior, read_checkpoint, save_release
from models.files.public_format import public_generator_name


@pytest.fixture(scope="module")
def files(generators: dict[NoiseMode, GPEN], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    generator = generators["concat"]
    network = StaticGPEN(generator)
    save_release(folder / "release.safetensors", generator, numbers="float32")
    public = {
        public_generator_name(name): tensor[None] if name.endswith("convolution.weight") else tensor
        for name, tensor in generator.state_dict().items()
    }
    torch.save({"g_ema": public}, folder / "public.pt")
    write_torchscript(folder / "script.pt", network)
    write_onnx(folder / "network.onnx", network)
    return {path.stem: path for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["release", "public", "script", "network"])
def test_every_kind_of_file_restores_the_same_images_in_batches_of_any_size(
    files: dict[str, Path], generators: dict[NoiseMode, GPEN], images: Tensor, kind: str
) -> None:
    restorer = load_restorer(files[kind])
    assert restorer.resolution == 64
    assert "GPEN 64" in restorer.description
    with torch.no_grad():
        expected = generators["concat"](images)
    for batch in (images, images[1:2], images[:0]):
        restored = restorer(batch)
        assert restored.dtype == torch.float32
        assert not restored.requires_grad
        torch.testing.assert_close(
            restored, expected[: len(batch)] if len(batch) != 1 else expected[1:2], rtol=0, atol=2e-5
        )


@pytest.mark.parametrize("kind", ["release", "script", "network"])
@pytest.mark.parametrize(
    "batch", [torch.zeros(3, 64, 64), torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 64, 64).double()]
)
def test_images_of_another_shape_or_type_are_refused(files: dict[str, Path], kind: str, batch: Tensor) -> None:
    with pytest.raises(ValueError, match=r"float32 \[N, 3, 64, 64\]"):
        load_restorer(files[kind])(batch)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.onnx"):
        load_restorer(tmp_path / "nowhere.onnx")
    with pytest.raises(ValueError, match="is a folder"):
        load_restorer(tmp_path)


def test_files_of_other_kinds_get_one_line(files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no network")
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "text.pt").write_text("no network")
    (tmp_path / "half.onnx").write_bytes(files["network"].read_bytes()[:5000])
    (tmp_path / "half.pt").write_bytes(files["script"].read_bytes()[:-5000])
    with zipfile.ZipFile(tmp_path / "photographs.pt", "w") as archive:
        archive.writestr("readme.txt", "no network")
    save_release(tmp_path / "prior.safetensors", Prior(Architecture(64, 1, 0.0625, style_dim=64)))
    for path in tmp_path.iterdir():
        with pytest.raises(ValueError, match=path.name) as caught:
            load_restorer(path)
        assert "\n" not in str(caught.value), path


def test_a_damaged_torchscript_archive_gets_one_line(files: dict[str, Path], tmp_path: Path) -> None:
    with zipfile.ZipFile(files["script"]) as good, zipfile.ZipFile(tmp_path / "bad.pt", "w") as bad:
        for name in good.namelist():
            bad.writestr(name, b"nonsense" if name.endswith("constants.pkl") else good.read(name))
    with pytest.raises(ValueError, match=r"bad\.pt is a damaged TorchScript file"):
        load_restorer(tmp_path / "bad.pt")


@pytest.mark.parametrize("kind", ["script", "network"])
def test_an_exported_model_is_no_checkpoint_to_train_on_or_export(files: dict[str, Path], kind: str) -> None:
    with pytest.raises(
        ValueError, match=f"^{files[kind]} is an exported model; name the checkpoint it was exported from"
    ):
        read_checkpoint(files[kind])


def test_networks_of_other_programs_are_refused(images: Tensor, tmp_path: Path) -> None:
    with accepted_deprecations():
        torch.jit.trace(nn.Conv2d(3, 3, 1), images).save(tmp_path / "other.pt")
    with pytest.raises(ValueError, match="does not say what it restores"):
        load_restorer(tmp_path / "other.pt")
    one = ("x", onnx.TensorProto.FLOAT, [1, 3, 64, 64])
    for described, inputs, wrong in (
        ("vector", [("x", onnx.TensorProto.FLOAT, [1, 3])], r"the shape of its input is \[1, 3\]"),
        ("bytes", [("x", onnx.TensorProto.UINT8, [1, 3, 64, 64])], "its input is uint8"),
        ("two", [one, ("more", onnx.TensorProto.FLOAT, [1])], "2 inputs"),
        ("free", [("x", onnx.TensorProto.FLOAT, [1, 3, "height", "width"])], "the size of its input is not fixed"),
    ):
        write_identity(tmp_path / f"{described}.onnx", inputs)
        with pytest.raises(ValueError, match=f"must map one float32 image.*{wrong}"):
            load_restorer(tmp_path / f"{described}.onnx")


def write_identity(path: Path, inputs: list[tuple[str, int, list[int | str]]], num_outputs: int = 1) -> None:
    """A file that gives back its input; further outputs are its negative."""
    values = [onnx.helper.make_tensor_value_info(*described) for described in inputs]
    kinds = ["Identity", "Neg"][:num_outputs]
    nodes = [onnx.helper.make_node(kind, ["x"], [f"y{index}"]) for index, kind in enumerate(kinds)]
    outputs = [onnx.helper.make_tensor_value_info(f"y{index}", *inputs[0][1:]) for index in range(num_outputs)]
    graph = onnx.helper.make_graph(nodes, "g", values, outputs)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.mark.parametrize("kind", [onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16])
@pytest.mark.parametrize(("batch", "num_outputs"), [("batch", 1), (1, 2), ("batch", 2)])
def test_files_with_any_batch_half_precision_or_more_outputs_restore_by_their_first_output(
    images: Tensor, tmp_path: Path, kind: int, batch: int | str, num_outputs: int
) -> None:
    write_identity(tmp_path / "other.onnx", [("x", kind, [batch, 3, 64, 64])], num_outputs)
    restored = load_restorer(tmp_path / "other.onnx")(images)
    half = kind == onnx.TensorProto.FLOAT16
    assert restored.dtype == torch.float32
    torch.testing.assert_close(restored, images.half().float() if half else images, rtol=0, atol=0)


def write_large(path: Path, kind: str) -> None:
    """A file of a few hundred bytes one of whose values has 2^36 elements, as constant or as the input repeated."""
    names = ("x", "y")
    source, result = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 3, 64, 64]) for n in names)
    shape = {"ConstantOfShape": [2**18, 2**18], "Expand": [2**36 // (3 * 64 * 64), 3, 64, 64]}[kind]
    nodes = [
        onnx.helper.make_node(kind, ["shape"] if kind == "ConstantOfShape" else ["x", "shape"], ["large"]),
        onnx.helper.make_node("ReduceMax", ["large"], ["largest"], keepdims=0),
        onnx.helper.make_node("Add", ["x", "largest"], ["y"]),
    ]
    constant = onnx.helper.make_tensor("shape", onnx.TensorProto.INT64, [len(shape)], shape)
    graph = onnx.helper.make_graph(nodes, "g", [source], [result], [constant])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.mark.parametrize("kind", ["ConstantOfShape", "Expand"])
def test_a_file_whose_values_have_2_to_the_36_elements_is_refused_in_one_line_and_little_memory(
    images: Tensor, tmp_path: Path, kind: str
) -> None:
    write_large(tmp_path / "large.onnx", kind)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"large\.onnx fails when it restores a face.*memory") as caught:
        load_restorer(tmp_path / "large.onnx")(images)
    assert "\n" not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_devices_that_cannot_be_used_get_one_line(files: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="use cpu or a GPU"):
        load_restorer(files["release"], "cuda:77")
    with pytest.raises(ValueError, match="use cpu or a GPU"):
        load_restorer(files["script"], "nonsense")
    with pytest.raises(ValueError, match="on the CPU only"):
        load_restorer(files["network"], "meta")
