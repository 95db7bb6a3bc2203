"""Networks from files: our releases, Lightning checkpoints, public GPEN and StyleGAN2 checkpoints."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from models.architecture import Architecture
from models.discriminator import Discriminator
from models.files.foreign import NVIDIA_GROUP_SIZE, Found, find_discriminator, find_generator
from models.files.pickled_file import EXPORTED, LEGACY_MAGIC_BYTES, PICKLE_MAGIC_BYTES, ZIP_MAGIC_BYTES, read_pickled
from models.files.release_file import (
    FORMAT,
    LONGEST_SAFETENSORS_HEADER,
    Kind,
    read_safetensors,
    release_entry,
    with_scales,
)
from models.files.run_folder import check_seal, locate_checkpoint
from models.files.stored_tensor import StoredTensor, copy_tensors
from models.gpen import GPEN
from models.prior import Prior
from system.wording import counted

EXPECTED = (
    "expected a release file of this project (.safetensors), a Lightning checkpoint (.ckpt), a public GPEN checkpoint "
    "or a StyleGAN2 checkpoint in rosinality's format (.pth, .pt) or NVIDIA's (.pkl)"
)
NVIDIA_MARK = b"torch_utils.persistence"
NVIDIA_HEAD_BYTES = 2**16
"""The mark stands near the beginning of such a file, after the options of its training."""


@dataclass(frozen=True)
class StoredDiscriminator:
    """A discriminator in a file; its values are read when they are wanted."""

    path: Path
    architecture: Architecture
    """Resolution and channels are its own; the rest shapes no discriminator."""
    minibatch_group_size: int | None
    tensors: Mapping[str, StoredTensor]
    """Under our names."""

    def read(self) -> dict[str, Tensor]:
        """The values in float32."""
        return copy_tensors(self.tensors, self.path)


@dataclass(frozen=True)
class StoredNetworks:
    """What a file holds, under our names; GPEN or prior with its EMA weights, maybe a discriminator."""

    path: Path
    kind: Kind
    architecture: Architecture
    generator: Mapping[str, Tensor]
    find_discriminator: Callable[[], StoredDiscriminator | None]
    """Looks for the discriminator, which may be damaged where the generator is not."""
    card: Mapping[str, str]
    """What is known about the file, for reports: its origin and, for a release, its model card."""
    minibatch_group_size: int | None = None
    """Group size of the discriminator, as a file of ours states it."""
    notes: tuple[str, ...] = ()
    """What to say of how it was read: which of several networks, what was left out."""

    @property
    def discriminator(self) -> StoredDiscriminator | None:
        """The discriminator beside the generator, None where the file has none; ValueError where it is damaged or
        another kind."""
        return self.find_discriminator()

    @property
    def is_public(self) -> bool:
        """Whether others made the file."""
        return self.card.get("origin", "") == "public GPEN checkpoint"


def load_generator(path: Path | str) -> GPEN:
    """Loads a restoration network for evaluation from any file or run that `read_checkpoint` knows and that holds a
    GPEN: on the CPU in float32 and evaluation mode, with the EMA weights. FileNotFoundError where there is no such
    file, ValueError where it is something else, damaged, or holds a prior only."""
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
    stored = read_discriminator(path)
    if stored is None:
        return None
    discriminator = Discriminator(stored.architecture, stored.minibatch_group_size)
    load_exactly(discriminator, stored.read(), str(path))
    return discriminator


def decoder_state(stored: StoredNetworks) -> dict[str, Tensor]:
    """The tensors of the prior, alone or inside a GPEN."""
    if stored.kind == "prior":
        return dict(stored.generator)
    return {n.removeprefix("decoder."): t for n, t in stored.generator.items() if n.startswith("decoder.")}


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Copies a state dict into a module; ValueError where names or shapes differ, or a value is not finite."""
    broken = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if broken:
        more = f" and {counted(len(broken) - 1, 'more tensor')}" if len(broken) > 1 else ""
        raise ValueError(f"{origin} holds values that are not finite, in {broken[0]}{more}; take an earlier checkpoint")
    _check_fits(module, state, origin)
    module.load_state_dict(state)


def _check_fits(module: nn.Module, state: Mapping[str, Any], origin: str) -> None:
    """Raises ValueError unless a state has the tensors of a network, which may be on the meta device."""
    have, want = ({name: _form(value) for name, value in of.items()} for of in (state, module.state_dict()))
    other = [name for name in sorted(have | want) if have.get(name) != want.get(name)]
    if other:
        was, wanted = (of.get(other[0], "absent") for of in (have, want))
        raise ValueError(
            f"{origin} does not fit the network: tensors are missing, left over or of another shape, "
            f"{len(other)} in all, first {other[0][:100]}, which is {was} instead of {wanted}; take "
            "another file, or its own architecture"
        )


def _form(value: object) -> tuple[int, ...] | str:
    """The shape of a tensor of floating-point numbers, else what it is in place of one."""
    if not isinstance(value, Tensor | StoredTensor):
        return type(value).__name__
    return tuple(value.shape) if value.dtype.is_floating_point else str(value.dtype)


def read_checkpoint(path: Path | str) -> StoredNetworks:
    """Reads the generator of a checkpoint of any known format, of which nothing is executed: release file
    (safetensors), Lightning checkpoint, public GPEN checkpoint (bare or in any wrapper), StyleGAN2 checkpoint in
    rosinality's format or NVIDIA's, a run's folder, or `best` or `last` in it. FileNotFoundError where there is no such
    file, ValueError where it is something else or damaged."""
    path, is_checked = locate_checkpoint(path)
    content = _open(path, is_checked)
    if content.entry is not None:
        return _read_own(path, content)
    found = find_generator(content.values)
    if found is None:
        judge, _ = find_discriminator(content.values)
        if judge is None:
            raise ValueError(f"{path} {content.strange()}")
        raise ValueError(
            f"{path} holds a discriminator alone ({judge.place or next(iter(judge.tensors))}), no generator; name the "
            "generator's file, and in training this one as --model.init_args.optimization.start_discriminator"
        )
    try:
        architecture, tensors = found.generator()
        state = copy_tensors(tensors, path)
    except (ValueError, ArithmeticError) as error:
        raise ValueError(f"{path}: {str(error).removeprefix(f'{path} ')}") from error
    card = {"origin": found.dialect.origin}
    kind: Kind = "gpen" if found.dialect.network == "gpen" else "prior"
    notes = (*_notes(found), *content.notes)
    return StoredNetworks(path, kind, architecture, state, lambda: _foreign_judge(path, content), card, notes=notes)


def read_discriminator(path: Path | str) -> StoredDiscriminator | None:
    """Reads the discriminator of a checkpoint, which may hold nothing else; None where there is only a generator.
    Raises as `read_checkpoint` does."""
    path, is_checked = locate_checkpoint(path)
    content = _open(path, is_checked)
    if content.entry is not None:
        return _read_own(path, content).discriminator
    judge = _foreign_judge(path, content)
    return judge if judge is not None else read_checkpoint(path).discriminator


@dataclass(frozen=True)
class _Content:
    values: Mapping[Any, Any]
    entry: Mapping[str, Any] | None
    """What a file of ours says of its networks; None for others."""
    card: Mapping[str, str]
    name: str
    """What kind of file it is, for messages."""
    notes: tuple[str, ...] = ()

    def strange(self) -> str:
        """What a file holds that holds no known network."""
        if self.name == "safetensors":
            return f"is a safetensors file of another program; {EXPECTED}"
        values = self.values.get("g_ema", self.values)
        is_state = isinstance(values, Mapping) and all(isinstance(v, StoredTensor) for v in values.values())
        if is_state and values:
            return f"holds tensors of another network ({_few(values, 3)}); {EXPECTED}"
        return f"holds {_few(self.values, 5) or 'nothing'}; {EXPECTED}"


def _open(path: Path, is_checked: bool) -> _Content:
    with path.open("rb") as file:
        head = file.read(NVIDIA_HEAD_BYTES)
    if int.from_bytes(head[:8], "little") <= LONGEST_SAFETENSORS_HEADER and head[8:9] == b"{":
        read = read_safetensors(path)
        if read.metadata.get("format") != FORMAT:
            return _Content(read.tensors, None, {}, "safetensors")
        entry, card = release_entry(path, read.metadata)
        if any(not name.startswith(("generator.", "discriminator.")) for name in read.tensors):
            raise ValueError(
                f"{path} is a damaged release file (it holds tensors of neither generator nor discriminator)"
            )
        return _Content(with_scales(read.tensors), entry, card, "release file")
    is_nvidia = head.startswith(PICKLE_MAGIC_BYTES) and NVIDIA_MARK in head
    if not is_nvidia and not head.startswith((ZIP_MAGIC_BYTES, LEGACY_MAGIC_BYTES)):
        if path.suffix.lower() == ".onnx":
            raise ValueError(f"{path} {EXPORTED}")
        raise ValueError(f"{path} {_describe(head[:64])}; {EXPECTED}")
    try:
        if not is_checked:
            check_seal(path)
    except ValueError as error:
        raise ValueError(f"{error}; put a copy back or name another checkpoint") from error
    try:
        content = read_pickled(path)
    except ValueError as error:
        raise ValueError(f"{error}; {EXPECTED}") from error
    notes = (f"not made, only named: {', '.join(content.stand_ins)[:200]}",) if content.stand_ins else ()
    values = content.values
    if "state_dict" in values and FORMAT in values:
        entry, state = values[FORMAT], values["state_dict"]
        if not isinstance(state, Mapping) or not isinstance(entry, Mapping):
            raise ValueError(f"{path} is a damaged Lightning checkpoint (its state is no dictionary)")
        seen = values.get("images_seen")
        is_count = type(seen) is int and 0 <= seen < 2**63
        card = {"origin": "Lightning checkpoint", "images seen": str(seen) if is_count else "unknown"}
        renamed = {"generator." + n.removeprefix("ema."): t for n, t in _texts(state) if n.startswith("ema.")}
        renamed |= {n: t for n, t in _texts(state) if n.startswith("discriminator.")}
        return _Content(renamed, entry, card, "Lightning checkpoint", notes)
    return _Content(values, None, {}, "pickled", notes)


def _read_own(path: Path, content: _Content) -> StoredNetworks:
    """Networks of ours whose tensors are those of the architecture that the file states."""
    entry: Mapping[str, Any] = content.entry or {}
    try:
        stated = entry["architecture"]
        if not all(type(value) in (int, float, str, type(None)) for value in stated.values()):
            raise ValueError("its architecture is not of numbers and texts")
        architecture = Architecture(**stated)
        kind: Kind = entry["kind"]
        if type(kind) is not str or kind not in get_args(Kind):
            raise ValueError(f"its kind is none of {', '.join(get_args(Kind))}")
        group = entry["minibatch_group_size"]
        if type(group) not in (int, type(None)):
            raise ValueError("its minibatch_group_size is no number")
        with torch.device("meta"):  # takes no memory, however large the architecture
            network = (GPEN if kind == "gpen" else Prior)(architecture)
            judge = Discriminator(architecture, group)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"{path} is a damaged {content.name} ({error})") from error
    generator, discriminator = _part(content.values, "generator."), _part(content.values, "discriminator.")
    _check_fits(network, generator, str(path))

    def find() -> StoredDiscriminator | None:
        if not discriminator:
            return None
        _check_fits(judge, discriminator, str(path))
        return StoredDiscriminator(path, architecture, group, discriminator)

    state = copy_tensors(generator, path)
    return StoredNetworks(path, kind, architecture, state, find, content.card, group, content.notes)


def _foreign_judge(path: Path, content: _Content) -> StoredDiscriminator | None:
    found, reason = find_discriminator(content.values)
    if reason:
        raise ValueError(f"{path} holds no discriminator: {reason}; take a new one or one of another file")
    if found is None:
        return None
    try:
        architecture, tensors = found.discriminator()
    except (ValueError, ArithmeticError) as error:
        raise ValueError(f"{path}: {error}") from error
    group = NVIDIA_GROUP_SIZE if found.dialect.origin == "NVIDIA" else None
    return StoredDiscriminator(path, architecture, group, tensors)


def _notes(found: Found) -> tuple[str, ...]:
    """Where a network of another program stood in its file, and what lay beside it."""
    notes = [f"taken from {found.place}"] if found.place else []
    if found.left_out:
        notes.append(f"{counted(len(found.left_out), 'tensor')} of something else left out ({_few(found.left_out, 1)})")
    return tuple(notes)


def _describe(head: bytes) -> str:
    if not head:
        return "is empty"
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        return f"is a text file that begins with {head[:20].decode()!r}"
    return "is no checkpoint"


def _few(names: Any, number: int) -> str:
    return ", ".join(str(name)[:200] for name in list(names)[:number])  # texts or small numbers: see `PickleReader`


def _part(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {n.removeprefix(prefix): tensor for n, tensor in state.items() if n.startswith(prefix)}


def _texts(state: Mapping[Any, Any]) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in state.items() if type(name) is str]
