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
    half: bool = True,
) -> None:
    """Writes a release file: safetensors with the architecture in its metadata, atomically.

    Args:
        path: Target, ending in .safetensors.
        generator: GPEN or prior, EMA weights.
        discriminator: Stored beside a prior for those who fine-tune.
        card: Model card, name to text.
        half: Store float16 (half the size, about 60 dB from float32), else float32.
    """
    networks: dict[str, nn.Module] = {"generator": generator}
    if discriminator is not None:
        networks["discriminator"] = discriminator
    dtype = torch.float16 if half else torch.float32
    tensors = {
        f"{network}.{name}": tensor.detach().to("cpu", dtype).contiguous()
        for network, module in networks.items()
        for name, tensor in module.state_dict().items()
    }
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
