"""A trained network in the files that other programs expect, each read back and compared before it stands."""

import io
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import onnx
import onnxruntime
import torch
from onnxruntime.transformers.float16 import convert_float_to_float16
from torch import Tensor

from export.formats import artefacts
from export.formats.options import ConversionSettings, ParityFaces
from export.static.graph import ValueRange, record_ranges
from export.static.network import StaticGPEN
from models import GPEN, StoredNetworks, build_generator, load_generator, read_checkpoint, save_release
from models.files.public_format import from_unit_range, public_discriminator_name, public_generator_name, to_public
from system.atomic_file import replacing, write_atomically
from system.wording import counted

Target = Literal["public", "release", "facefusion"]
SUFFIXES: Mapping[Target, str] = {"public": ".pth", "release": ".safetensors", "facefusion": ".onnx"}
FACEFUSION_OPSET = 17
"""Restoration tools bring onnxruntime from 1.16 on, which reads 19 and below."""
LOWEST_HALF_DB = 45.0
"""How close a network in 16 bits must come to its own in 32, PSNR of images in [-1, 1]."""


def convert_checkpoint(
    checkpoint: Path, to: Target, output: Path, settings: ConversionSettings = ConversionSettings()
) -> str:
    """Writes the restoration network of any file or run that `models.load_generator` reads in another format, replacing
    the output, and says in one line what was written and how it compares.

    `public` is the bare state dict of the public code, with the discriminator in a file `…_D.pth` beside it where there
    is one; `release` is float32 safetensors of this project; `facefusion` is ONNX. ValueError where the output's name
    ends in another way, the file holds no restoration network, or what was written differs; OSError where a file is
    missing or cannot be written.
    """
    if output.suffix != SUFFIXES[to]:
        raise ValueError(f"the output must end in {SUFFIXES[to]} for {to}, got {output}")
    stored = read_checkpoint(checkpoint)
    if settings.unit_range and stored.kind == "gpen":
        stored = replace(stored, generator=from_unit_range(stored.generator))
    generator = build_generator(stored)
    if to == "facefusion":
        return _write_facefusion(output, generator, settings)
    with replacing(output) as temporary:
        if to == "release":
            save_release(temporary, generator, card=stored.card, numbers="float32")
        else:
            _check_public(generator)
            temporary.write_bytes(_saved(to_public(generator.state_dict(), public_generator_name)))
        _check_equal(temporary, generator)
    words = f"{output}: equal bit for bit when it is read back"
    return words if to == "release" else words + _write_judge(output, stored)


def _check_public(generator: GPEN) -> None:
    architecture = generator.architecture
    if architecture.noise_mode == "none" or architecture.fed_convolutions != "both":
        raise ValueError(
            "the public code knows noise concat and add, fed to both convolutions, got "
            f"{architecture.noise_mode} and {architecture.fed_convolutions}; convert it --to release"
        )


def _check_equal(path: Path, generator: GPEN) -> None:
    loaded, state = load_generator(path), generator.state_dict()
    if loaded.architecture != generator.architecture:
        raise ValueError(f"{path} is read back as {loaded.architecture}, not {generator.architecture}")
    different = [name for name, tensor in loaded.state_dict().items() if not torch.equal(tensor, state[name])]
    if different:
        raise ValueError(f"{path} differs from the network in {different[0]} when it is read back")


def _saved(content: Mapping[str, Tensor]) -> bytes:
    """What `torch.save` writes; of a full disk it would say nothing but an error of its own."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _write_judge(output: Path, stored: StoredNetworks) -> str:
    """Writes the discriminator, where there is one, as public GPEN is released: in a file of its own."""
    judge = stored.discriminator
    if judge is None:
        return "; the checkpoint holds no discriminator"
    path = output.with_name(f"{output.stem}_D{output.suffix}")
    write_atomically(path, _saved(to_public(judge.read(), public_discriminator_name)))
    return f"; its discriminator is {path.name}"


def _write_facefusion(output: Path, generator: GPEN, settings: ConversionSettings) -> str:
    faces = ParityFaces(settings.faces, pictures=settings.pictures)
    images = artefacts.parity_images(faces, generator.architecture.resolution)
    network = StaticGPEN(generator)
    with replacing(output) as temporary:
        artefacts.write_onnx(temporary, network, FACEFUSION_OPSET, settings.dynamic_batch)
        if settings.half:
            kept = modules_beyond_half(record_ranges(network, images))
            temporary.write_bytes(to_half(onnx.load(temporary), kept).SerializeToString())
        restored = _run(temporary, images, settings.dynamic_batch)
        expected = artefacts.restore_images(generator, images, "restoring")
        if not settings.half:
            found = artefacts.image_difference(restored, expected)
            artefacts.check_difference(str(output), found)
            return f"{output}: largest difference {found.largest:.1e} from the network, in units of [-1, 1]"
        decibels = psnr_of_values(restored, expected)
        if not decibels >= LOWEST_HALF_DB:
            raise ValueError(
                f"{output} in 16 bits is {decibels:.1f} dB from the network, {LOWEST_HALF_DB:g} dB are asked for, so "
                "nothing was written; leave out --half"
            )
    return f"{output}: {decibels:.1f} dB from the network in 16 bits; {counted(len(kept), 'module')} left in 32 bits"


def psnr_of_values(images: Tensor, expected: Tensor) -> float:
    """PSNR in dB of images [N, 3, R, R] in [-1, 1], clipped; not a number where a value is none."""
    error = float((images.clamp(-1, 1) - expected.clamp(-1, 1)).square().mean())
    return math.inf if error == 0 else 10 * math.log10(4 / error) if error > 0 else math.nan


def modules_beyond_half(ranges: Mapping[str, ValueRange]) -> list[str]:
    """The modules of a static network that cannot compute in 16 bits, by the values that `record_ranges` saw."""
    # A layer around an energy takes its root, whose epsilon is 0 in 16 bits.
    beyond = [name for name, values in ranges.items() if values.is_too_large or values.is_too_small]
    return sorted({*beyond, *(name.removesuffix(".energy") for name in beyond)})


def to_half(model: onnx.ModelProto, kept: list[str]) -> onnx.ModelProto:
    """Turns a float32 model of `write_onnx`, the names of whose nodes are paths of modules, into one that computes in
    16 bits between a float32 input and output; the operations of modules that are `kept` stay in float32."""
    folders = {f"/{name.replace('.', '/')}" if name else "" for name in kept}
    blocked = [node.name for node in model.graph.node if node.name.rpartition("/")[0] in folders]
    converted: onnx.ModelProto = convert_float_to_float16(model, keep_io_types=True, node_block_list=blocked)
    return converted


def _run(path: Path, images: Tensor, dynamic_batch: bool) -> Tensor:
    """What onnxruntime makes of images, all at once where the file takes any number."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    parts = [images] if dynamic_batch else images.split(1)
    return torch.cat([torch.from_numpy(session.run(None, {artefacts.INPUT_NAME: part.numpy()})[0]) for part in parts])
