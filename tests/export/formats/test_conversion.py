"""What leaves for other programs is read back equal, and works as they use it."""

import json
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from export.formats.conversion import convert_checkpoint, modules_beyond_half, psnr_of_values
from export.formats.options import ConversionSettings
from export.static.graph import record_ranges
from export.static.network import StaticGPEN
from models import GPEN, Architecture, Discriminator, NoiseMode, load_discriminator, load_generator, save_release
from models.files.public_format import public_discriminator_name, public_generator_name, to_public
from scripts import convert_checkpoint as command


@pytest.mark.parametrize("size", ["256", "512"])
def test_public_files_have_the_names_and_shapes_of_the_released_ones(size: str, recorded: Path) -> None:
    architecture = {"256": Architecture(256, 1, 0.5), "512": Architecture(512, 2, 1.0)}[size]
    expected = json.loads((recorded / f"checkpoint_keys_{size}.json").read_text())
    generator = to_public(GPEN(architecture).state_dict(), public_generator_name)
    assert {name: list(tensor.shape) for name, tensor in generator.items()} == expected["generator"]
    judge = to_public(Discriminator(architecture).state_dict(), public_discriminator_name)
    assert {name: list(tensor.shape) for name, tensor in judge.items()} == expected["discriminator"]


@pytest.mark.parametrize(("to", "name"), [("public", "GPEN.pth"), ("release", "gpen.safetensors")])
def test_a_file_that_cannot_be_written_whole_is_named_and_not_left_behind(
    to: str, name: str, generators: dict[NoiseMode, GPEN], tmp_path: Path
) -> None:
    save_release(tmp_path / "x.safetensors", generators["add"], numbers="float32")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limit[1]))  # as a full disk
    try:
        with pytest.raises(OSError, match=f"File too large: '{tmp_path}/{name}'"):
            convert_checkpoint(tmp_path / "x.safetensors", to, tmp_path / name)  # type: ignore[arg-type]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize(("to", "name"), [("public", "GPEN.pth"), ("release", "gpen.safetensors")])
def test_weights_come_back_bit_for_bit(to: str, name: str, generators: dict[NoiseMode, GPEN], tmp_path: Path) -> None:
    for mode in ("concat", "add"):
        generator = generators[mode]
        judge = Discriminator(generator.architecture)
        save_release(tmp_path / "x.safetensors", generator, judge, numbers="float32")
        text = convert_checkpoint(tmp_path / "x.safetensors", to, tmp_path / name)  # type: ignore[arg-type]
        assert "equal bit for bit" in text
        loaded = load_generator(tmp_path / name)
        pairs = zip(loaded.state_dict().values(), generator.state_dict().values(), strict=True)
        assert loaded.architecture == generator.architecture and all(torch.equal(a, b) for a, b in pairs)
    if to == "public":
        found = load_discriminator(tmp_path / "GPEN_D.pth")
        assert found is not None and torch.equal(found.hidden.weight, judge.hidden.weight)


def test_a_network_between_images_from_0_to_1_becomes_one_between_images_from_minus_1_to_1(
    generators: dict[NoiseMode, GPEN], images: torch.Tensor, checkpoint: Path, tmp_path: Path
) -> None:
    convert_checkpoint(checkpoint, "release", tmp_path / "a.safetensors", ConversionSettings(unit_range=True))
    with torch.no_grad():
        of_unit_range = generators["concat"]((images + 1) / 2)
        restored = load_generator(tmp_path / "a.safetensors")(images)
    assert (restored - generators["concat"](images)).abs().max() > 0.1
    torch.testing.assert_close(restored, 2 * of_unit_range - 1, rtol=0, atol=2e-5)


def test_what_the_public_code_lacks_is_not_converted_to_it(generators: dict[NoiseMode, GPEN], tmp_path: Path) -> None:
    save_release(tmp_path / "x.safetensors", generators["none"])
    with pytest.raises(ValueError, match=r"the public code knows noise concat and add.+ got none"):
        convert_checkpoint(tmp_path / "x.safetensors", "public", tmp_path / "y.pth")
    with pytest.raises(ValueError, match=r"must end in \.onnx for facefusion, got .+y\.pth"):
        convert_checkpoint(tmp_path / "x.safetensors", "facefusion", tmp_path / "y.pth")
    assert not (tmp_path / "y.pth").exists()


def facefusion_restores(session: onnxruntime.InferenceSession, frame: np.ndarray) -> np.ndarray:
    """What facefusion does with an aligned face: BGR bytes to RGB in [-1, 1], the first output, clipped and rounded."""
    crop = (frame[:, :, ::-1] / 255.0 - 0.5) / 0.5
    crop = np.expand_dims(crop.transpose(2, 0, 1), axis=0).astype(np.float32)
    inputs = {value.name: crop for value in session.get_inputs() if value.name == "input"}
    restored = session.run(None, inputs)[0][0]
    restored = ((np.clip(restored, -1, 1) + 1) / 2).transpose(1, 2, 0)
    return (restored * 255.0).round().astype(np.uint8)[:, :, ::-1]


@pytest.mark.parametrize("half", [False, True])
def test_facefusion_restores_as_the_network_does(half: bool, checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "gpen.onnx"
    convert_checkpoint(checkpoint, "facefusion", path, ConversionSettings(half=half))
    session = onnxruntime.InferenceSession(path)
    (given,), outputs = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("input", "tensor(float)", [1, 3, 64, 64])
    assert [output.type for output in outputs] == ["tensor(float)"]
    frame = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    degraded = torch.from_numpy(frame[:, :, ::-1].copy()).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        expected = load_generator(checkpoint)(degraded)
    restored = torch.from_numpy(facefusion_restores(session, frame)[:, :, ::-1].copy()).permute(2, 0, 1)[None]
    decibels = psnr_of_values(restored / 127.5 - 1, expected)
    assert decibels > (45 if half else 50)  # rounding to bytes alone leaves 58.9 dB
    types = {tensor.data_type for tensor in onnx.load(path).graph.initializer if len(tensor.dims) == 4}
    assert (onnx.TensorProto.FLOAT16 in types) == half


def test_a_dynamic_batch_restores_every_face_alike(checkpoint: Path, tmp_path: Path) -> None:
    convert_checkpoint(checkpoint, "facefusion", tmp_path / "a.onnx", ConversionSettings(dynamic_batch=True))
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    assert session.get_inputs()[0].shape == ["batch", 3, 64, 64]
    faces = np.random.default_rng(1).uniform(-1, 1, (3, 3, 64, 64)).astype(np.float32)
    together = session.run(None, {"input": faces})[0]
    alone = [session.run(None, {"input": face[None]})[0] for face in faces]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-4)


@torch.no_grad()
def test_layers_that_overflow_16_bits_stay_in_32(
    generators: dict[NoiseMode, GPEN], images: torch.Tensor, tmp_path: Path
) -> None:
    generator = GPEN(generators["concat"].architecture).eval()
    generator.load_state_dict(generators["concat"].state_dict())
    generator.encoder.downs[0][1].weight.mul_(1e4)  # type: ignore[index, union-attr, operator]
    generator.encoder.downs[1][1].weight.div_(1e4)  # type: ignore[index, union-attr, operator]
    generator.decoder.synthesis.blocks[3].plain.noise_strength.div_(1e4)  # type: ignore[union-attr, operator]
    generator.decoder.synthesis.blocks[3].up.noise_strength.div_(1e4)  # type: ignore[union-attr, operator]
    kept = modules_beyond_half(record_ranges(StaticGPEN(generator), images))
    assert any(name.startswith("encoder.") for name in kept)
    save_release(tmp_path / "x.safetensors", generator, numbers="float32")
    text = convert_checkpoint(
        tmp_path / "x.safetensors", "facefusion", tmp_path / "a.onnx", ConversionSettings(half=True)
    )
    assert float(text.partition(": ")[2].split(" dB")[0]) >= 45 and "left in 32 bits" in text


def test_the_command_refuses_to_replace_a_file(
    checkpoint: Path, tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    arguments = (checkpoint, "--to", "public", "--output", tmp_path / "GPEN.pth")
    code, out, _ = run(command.main, *arguments)
    assert code == 0 and out.startswith(f"{tmp_path / 'GPEN.pth'}: equal bit for bit when it is read back")
    code, _, error = run(command.main, *arguments)
    assert code == 2 and "exists already" in error
