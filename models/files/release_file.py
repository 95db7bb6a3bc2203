"""Files of this project: releases and what Lightning checkpoints say about the networks in them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from models.architecture import Architecture
from models.discriminator import Discriminator
from models.files.stored_tensor import StoredTensor
from models.gpen import GPEN
from models.prior import Prior
from system.atomic_file import replacing

FORMAT = "gpen-trainer"
Kind = Literal["gpen", "prior"]
Numbers = Literal["float32", "float16", "int8"]
"""How a release file stores weights; `int8` is of convolutions and linear layers, beside a scale per output channel."""
INT8_LARGEST = 127
_WEIGHT, _SCALE = ".weight", ".scale"
LONGEST_SAFETENSORS_HEADER = 10_000_000
"""In bytes; the headers of our files have about 0.1 MB."""
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class SafetensorsContent:
    """What a safetensors file holds."""

    metadata: Mapping[str, str]
    tensors: Mapping[str, StoredTensor]
    """Tensors by name; they stay in the file until they are read."""


def read_safetensors(path: Path) -> SafetensorsContent:
    """Reads the header of a safetensors file of any program; ValueError where it is damaged or of a number format that
    PyTorch or this project lacks."""
    try:
        with safe_open(path, framework="pt") as file:
            # Sorted, for safetensors gives it in another order in every process.
            metadata, tensors = dict(sorted((file.metadata() or {}).items())), {}
            for name in file.keys():  # noqa: SIM118
                view = file.get_slice(name)
                shape, dtype = tuple(view.get_shape()), _DTYPES[view.get_dtype()]
                tensors[name] = StoredTensor(shape, dtype, partial(_read, path, name))
    except (SafetensorError, KeyError, RuntimeError, TypeError, UnicodeError) as error:
        raise ValueError(f"{path} is a damaged release file ({error})") from error
    return SafetensorsContent(metadata, tensors)


def _read(path: Path, name: str) -> Tensor:
    try:
        with safe_open(path, framework="pt") as file:
            return file.get_tensor(name)
    except (SafetensorError, RuntimeError, TypeError) as error:
        raise ValueError(f"{path} is a damaged release file ({error})") from error


def _stored(name: str, tensor: Tensor, numbers: Numbers) -> dict[str, Tensor]:
    """A tensor as it stands in a file."""
    if numbers != "int8" or not name.endswith(_WEIGHT) or tensor.ndim < 2:
        return {name: tensor.to(torch.float32 if numbers == "float32" else torch.float16).contiguous()}
    scale = tensor.flatten(1).abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / INT8_LARGEST
    rounded = (tensor / _by_channel(scale, tensor.ndim)).round().to(torch.int8)
    return {name: rounded.contiguous(), name.removesuffix(_WEIGHT) + _SCALE: scale}


def with_scales(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """The tensors of a release file, those in int8 multiplied by their scales when they are read; a scale that fits no
    such weight stays a tensor of its own."""
    joined = dict(tensors)
    for name, scale in tensors.items():
        weight_name = name.removesuffix(_SCALE) + _WEIGHT
        weight = tensors.get(weight_name)
        if not name.endswith(_SCALE) or weight is None or weight.dtype != torch.int8:
            continue
        if scale.dtype == torch.float32 and scale.shape == weight.shape[:1]:
            joined[weight_name] = StoredTensor(
                weight.shape, torch.float32, partial(_scaled, weight, scale), weight.size_bytes + scale.size_bytes
            )
            del joined[name]
    return joined


def _scaled(weight: StoredTensor, scale: StoredTensor) -> Tensor:
    return weight.read() * _by_channel(scale.read(), len(weight.shape))


def _by_channel(scale: Tensor, num_dimensions: int) -> Tensor:
    return scale.reshape(-1, *[1] * (num_dimensions - 1))


def release_entry(path: Path, metadata: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """What a release says of its networks (see `lightning_entry`), and its model card; ValueError where something is
    missing."""
    card = {name: text for name, text in metadata.items() if name != "format"}
    try:
        entry = {name: card.pop(name) for name in ("kind", "architecture", "minibatch_group_size")}
        return entry | {n: json.loads(entry[n]) for n in ("architecture", "minibatch_group_size")}, card
    except (KeyError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is a damaged release file ({error})") from error


def lightning_entry(kind: Kind, architecture: Architecture, minibatch_group_size: int | None) -> dict[str, Any]:
    """What a LightningModule stores under `FORMAT` in its checkpoints so that `read_checkpoint` knows them."""
    return {"kind": kind, "architecture": asdict(architecture), "minibatch_group_size": minibatch_group_size}


def save_release(
    path: Path | str,
    generator: GPEN | Prior,
    discriminator: Discriminator | None = None,
    card: Mapping[str, str] | None = None,
    numbers: Numbers = "float16",
) -> None:
    """Writes a release file: safetensors with the architecture in its metadata, atomically.

    Args:
        path: Target, ending in .safetensors.
        generator: GPEN or prior, EMA weights.
        discriminator: Stored beside a prior for those who fine-tune.
        card: Model card, name to text.
        numbers: Of the weights: float16 is half the size of float32 (about 60 dB from it), int8 a quarter.
    """
    networks: dict[str, nn.Module] = {"generator": generator}
    if discriminator is not None:
        networks["discriminator"] = discriminator
    tensors: dict[str, Tensor] = {}
    for network, module in networks.items():
        for name, tensor in module.state_dict().items():
            tensors |= _stored(f"{network}.{name}", tensor.detach().cpu(), numbers)
    metadata = {
        **(card or {}),
        "format": FORMAT,
        "kind": "gpen" if isinstance(generator, GPEN) else "prior",
        "architecture": json.dumps(asdict(generator.architecture)),
        "minibatch_group_size": json.dumps(discriminator.minibatch_group_size if discriminator else None),
    }
    content = save(tensors, metadata)
    # The library writes metadata in an order that changes with every process: sorted, equal networks are equal files.
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.write(memoryview(content)[end:])
