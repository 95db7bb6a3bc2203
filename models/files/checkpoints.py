"""Networks from files: our releases, Lightning checkpoints, public GPEN and StyleGAN2 checkpoints."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from models.architecture import Architecture
from models.discriminator import Discriminator
from models.files.pickled_file import LEGACY_MAGIC_BYTES, ZIP_MAGIC_BYTES, copy_tensors, read_pickled
from models.files.public_format import (
    architecture_of,
    from_public,
    public_discriminator_name,
    public_generator_name,
    public_prior_name,
)
from models.gpen import GPEN
from models.prior import Prior
from system.atomic_file import replacing

FORMAT = "gpen-trainer"
EXPECTED = (
    "expected a release file of this project (.safetensors), a Lightning checkpoint (.ckpt), a public GPEN checkpoint "
    "or a StyleGAN2 checkpoint in rosinality's format (.pth, .pt)"
)
Kind = Literal["gpen", "prior"]
LONGEST_SAFETENSORS_HEADER = 10_000_000
"""In bytes; the headers of our files have about 0.1 MB."""


@dataclass(frozen=True)
class StoredNetworks:
    """What a file holds, under our names; GPEN or prior with its EMA weights, maybe a discriminator."""

    path: Path
    kind: Kind
    architecture: Architecture
    generator: Mapping[str, Tensor]
    discriminator: Mapping[str, Tensor] | None
    minibatch_group_size: int | None
    card: Mapping[str, str]
    """What is known about the file, for reports: its origin and, for a release, its model card."""


def load_generator(path: Path | str) -> GPEN:
    """Loads a restoration network for evaluation.

    Args:
        path: Any file that `read_checkpoint` knows and that holds a GPEN.

    Returns:
        GPEN on the CPU in float32 and evaluation mode, with the EMA weights; its architecture is read from the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is something else, damaged, or holds a prior only.
    """
    return build_generator(read_checkpoint(path))


def build_generator(stored: StoredNetworks) -> GPEN:
    """Makes the restoration network of a file that was read already; see `load_generator`."""
    if stored.kind != "gpen":
        raise ValueError(
            f"{stored.path} holds a prior, not a restoration network; fine-tune it first (python -m train fit)"
        )
    generator = GPEN(stored.architecture)
    load_exactly(generator, stored.generator, str(stored.path))
    return generator.eval()


def load_prior(path: Path | str) -> Prior:
    """Loads a prior for evaluation; like `load_generator`, with the prior inside a GPEN accepted as well."""
    stored = read_checkpoint(path)
    prior = Prior(stored.architecture)
    load_exactly(prior, decoder_state(stored), str(path))
    return prior.eval()


def load_discriminator(path: Path | str) -> Discriminator | None:
    """Loads the discriminator of a checkpoint, None where the file holds none."""
    stored = read_checkpoint(path)
    if stored.discriminator is None:
        return None
    discriminator = Discriminator(stored.architecture, stored.minibatch_group_size)
    load_exactly(discriminator, stored.discriminator, str(path))
    return discriminator


def decoder_state(stored: StoredNetworks) -> dict[str, Tensor]:
    """The tensors of the prior, alone or inside a GPEN."""
    if stored.kind == "prior":
        return dict(stored.generator)
    return {n.removeprefix("decoder."): t for n, t in stored.generator.items() if n.startswith("decoder.")}


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Copies a state dict into a module.

    Raises:
        ValueError: Names or shapes differ, or a value is not finite.
    """
    broken = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise ValueError(
            f"{origin} holds values that are not finite, in {broken[0]} and {len(broken) - 1} more tensors"
        )
    _load(module, state, origin, assign=False)


def _load(module: nn.Module, state: Mapping[str, Tensor], origin: str, assign: bool) -> None:
    try:
        module.load_state_dict(state, strict=True, assign=assign)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(f"{origin} does not fit the network: {' '.join(str(error).split())[:300]}") from error


def read_checkpoint(path: Path | str) -> StoredNetworks:
    """Reads a checkpoint of any known format; nothing in the file is executed.

    Args:
        path: Release file (safetensors), Lightning checkpoint, public GPEN checkpoint (bare or the training dict) or
            StyleGAN2 checkpoint in rosinality's format.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is something else or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint at {path}")
    with path.open("rb") as file:
        head = file.read(64)
    if int.from_bytes(head[:8], "little") <= LONGEST_SAFETENSORS_HEADER and head[8:9] == b"{":
        return _read_release(path)
    if not head.startswith((ZIP_MAGIC_BYTES, LEGACY_MAGIC_BYTES)):
        raise ValueError(f"{path} {_describe(head)}; {EXPECTED}")
    try:
        content = read_pickled(path)
    except ValueError as error:
        raise ValueError(f"{error}; {EXPECTED}") from error
    if "state_dict" in content and FORMAT in content:
        return _from_lightning(path, content)
    return _from_public(path, content)


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
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata)


def lightning_entry(kind: Kind, architecture: Architecture, minibatch_group_size: int | None) -> dict[str, Any]:
    """What a LightningModule stores under `FORMAT` in its checkpoints so that `read_checkpoint` knows them."""
    return {"kind": kind, "architecture": asdict(architecture), "minibatch_group_size": minibatch_group_size}


def _read_release(path: Path) -> StoredNetworks:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, RuntimeError, TypeError, UnicodeError) as error:  # number formats PyTorch lacks
        raise ValueError(f"{path} is a damaged release file ({error})") from error
    if metadata.pop("format", None) != FORMAT:
        raise ValueError(f"{path} is a safetensors file of another program; {EXPECTED}")
    try:
        entry = {name: metadata.pop(name) for name in ("kind", "architecture", "minibatch_group_size")}
        entry |= {name: json.loads(entry[name]) for name in ("architecture", "minibatch_group_size")}
    except (KeyError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is a damaged release file ({error})") from error
    generator, discriminator = _part(tensors, "generator."), _part(tensors, "discriminator.")
    if len(generator) + len(discriminator) < len(tensors):
        raise ValueError(f"{path} is a damaged release file (it holds tensors of neither generator nor discriminator)")
    return _checked(path, "release file", entry, generator, discriminator, metadata)


def _describe(head: bytes) -> str:
    """What a file is that begins in no known way."""
    if not head:
        return "is empty"
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        return f"is a text file that begins with {head[:20].decode()!r}"
    return "is no checkpoint"


def _from_lightning(path: Path, content: Mapping[str, Any]) -> StoredNetworks:
    entry, state = content[FORMAT], content["state_dict"]
    card = {"origin": "Lightning checkpoint", "images seen": str(content.get("images_seen", "unknown"))[:20]}
    if not isinstance(state, Mapping) or not isinstance(entry, Mapping):
        raise ValueError(f"{path} is a damaged Lightning checkpoint (its state is no dictionary)")
    return _checked(path, "Lightning checkpoint", entry, _part(state, "ema."), _part(state, "discriminator."), card)


def _checked(
    path: Path,
    name: str,
    entry: Mapping[str, Any],
    generator: Mapping[str, Tensor],
    discriminator: Mapping[str, Tensor],
    card: Mapping[str, str],
) -> StoredNetworks:
    """Networks of ours whose tensors are those of the architecture that the file states."""
    try:
        architecture = Architecture(**entry["architecture"])
        kind: Kind = entry["kind"]
        if kind not in get_args(Kind):
            raise ValueError(f"its kind is {str(kind)[:20]}")
        group = entry["minibatch_group_size"]
        with torch.device("meta"):  # takes no memory, however large the architecture
            network = (GPEN if kind == "gpen" else Prior)(architecture)
            judge = Discriminator(architecture, group)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"{path} is a damaged {name} ({error})") from error
    _load(network, generator, str(path), assign=True)
    if discriminator:
        _load(judge, discriminator, str(path), assign=True)
    own = copy_tensors(generator, path), copy_tensors(discriminator, path) or None
    return StoredNetworks(path, kind, architecture, *own, group, card)


def _from_public(path: Path, content: Mapping[str, Any]) -> StoredNetworks:
    generator = content.get("g_ema", content)
    if not _is_state_dict(generator) or not _is_state_dict(content.get("d", generator)):
        raise ValueError(f"{path} holds {', '.join(map(str, list(content)[:5])) or 'nothing'}; {EXPECTED}")
    generator = _named(generator)
    is_gpen = "final_linear.0.weight" in generator and "ecd0.0.0.weight" in generator
    prefix = "generator." if is_gpen else ""
    if f"{prefix}conv1.conv.weight" not in generator:
        raise ValueError(
            f"{path} holds tensors of another network ({', '.join(map(str, list(generator)[:3]))}); {EXPECTED}"
        )
    try:
        architecture = architecture_of(_part(generator, prefix))
        with torch.device("meta"):
            network: nn.Module = GPEN(architecture) if is_gpen else Prior(architecture)
            judge = Discriminator(architecture)
        rename = public_generator_name if is_gpen else public_prior_name
        state = copy_tensors(from_public(generator, _shapes(network), rename), path)
        discriminator = None
        if "d" in content:
            discriminator = copy_tensors(
                from_public(_named(content["d"]), _shapes(judge), public_discriminator_name), path
            )
    except (ValueError, ArithmeticError) as error:
        raise ValueError(f"{path}: {str(error).removeprefix(f'{path} ')}") from error
    card = {"origin": "public GPEN checkpoint" if is_gpen else "StyleGAN2 checkpoint"}
    return StoredNetworks(path, "gpen" if is_gpen else "prior", architecture, state, discriminator, None, card)


def _is_state_dict(content: object) -> bool:
    return isinstance(content, Mapping) and len(content) > 0 and all(isinstance(t, Tensor) for t in content.values())


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): tensor for n, tensor in _named(state).items() if n.startswith(prefix)}


def _named(state: Mapping[Any, Tensor]) -> dict[str, Tensor]:
    """The same with names that are texts; those of a hostile file may be anything."""
    return {str(name)[:200]: tensor for name, tensor in state.items()}
