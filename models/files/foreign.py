"""Networks in files of other programs: in whatever wrapper, under whatever prefix, beside whatever else they lie."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from models.architecture import Architecture
from models.discriminator import Discriminator
from models.files.public_format import (
    Rename,
    architecture_of,
    architecture_of_channels,
    from_public,
    nvidia_discriminator_name,
    nvidia_prior_name,
    public_discriminator_name,
    public_generator_name,
    public_prior_name,
)
from models.files.stored_tensor import StoredTensor
from models.gpen import GPEN
from models.prior import Prior

AVERAGED = ("g_ema", "params_ema", "G_ema", "generator_ema", "model_ema", "ema")
"""Under which names moving averages of a generator are stored; they are preferred."""
TRAINED = ("params", "state_dict", "generator", "model", "g", "G", "net_g", "netG")
JUDGES = ("d", "D", "discriminator", "net_d", "netD")
MOST_MAPPINGS = 1000
"""Wrappers and modules that are looked into; NVIDIA's generator of 1024 pixels has about 100."""
NVIDIA_GROUP_SIZE = 4


@dataclass(frozen=True)
class Dialect:
    """How one family of files calls the tensors of one kind of network."""

    origin: str
    """What such files are called in reports."""
    network: Literal["gpen", "prior", "discriminator"]
    anchor: re.Pattern[str]
    """The name of a tensor that every such network has and no other; of a restorer any name of its encoder, so that
    one without some of its tensors is not taken for a prior."""
    own: re.Pattern[str]
    """How the names of its tensors begin; others beside them belong to something else."""
    rename: Rename
    """Our name to theirs; for NVIDIA's discriminator the resolution is still to be given."""


GENERATORS = (
    Dialect(
        "public GPEN checkpoint", "gpen", re.compile(r"ecd\d+\.\d.*"), re.compile(r"(generator|ecd\d+|final_linear)\."),
        public_generator_name,
    ),
    Dialect(
        "StyleGAN2 checkpoint", "prior", re.compile(r"conv1\.conv\.weight"),
        re.compile(r"(style|input|conv1|to_rgb1|convs|to_rgbs|noises)\."), public_prior_name,
    ),
    Dialect(
        "NVIDIA StyleGAN2 pickle", "prior", re.compile(r"synthesis\.b4\.const"), re.compile(r"(mapping|synthesis)\."),
        nvidia_prior_name,
    ),
)  # fmt: skip
DISCRIMINATORS = (
    Dialect(
        "public", "discriminator", re.compile(r"final_conv\.0\.weight"),
        re.compile(r"(convs|final_conv|final_linear)\."),
        public_discriminator_name,
    ),
    Dialect("NVIDIA", "discriminator", re.compile(r"b4\.fc\.weight"), re.compile(r"b\d+\."), public_discriminator_name),
)  # fmt: skip


@dataclass(frozen=True)
class Found:
    """A network in a file of another program."""

    dialect: Dialect
    place: str
    """Keys that lead to it and the prefix of its names; empty for a bare state dict."""
    tensors: Mapping[str, StoredTensor]
    """Without the prefix."""
    left_out: tuple[str, ...]
    """Names of tensors beside it that belong to something else."""

    def generator(self) -> tuple[Architecture, dict[str, StoredTensor]]:
        """Architecture and tensors of a generator under our names; ValueError where these are missing, left over or of
        other shapes."""
        rename, is_gpen = self.dialect.rename, self.dialect.network == "gpen"
        architecture = architecture_of(self.tensors, rename, is_gpen)
        with torch.device("meta"):
            network = GPEN(architecture) if is_gpen else Prior(architecture)
        return architecture, from_public(self.tensors, _shapes(network), rename)

    def discriminator(self) -> tuple[Architecture, dict[str, StoredTensor]]:
        """Architecture (as far as it shapes a discriminator) and tensors of a discriminator under our names; ValueError
        as above."""
        is_nvidia = self.dialect.origin == "NVIDIA"
        name = "b{}.conv1.weight" if is_nvidia else "convs.{}.conv2.1.weight"
        numbers = [2**power for power in range(11, 2, -1)] if is_nvidia else list(range(1, 11))
        weights = [self.tensors[name.format(n)] for n in numbers if name.format(n) in self.tensors]
        if not weights or any(len(weight.shape) != 4 for weight in weights):
            raise ValueError("a discriminator has a residual block for every halving, this one has none")
        channels = [weight.shape[0] for weight in weights[::-1]] + [weights[0].shape[1]]
        resolution, multiplier, narrow = architecture_of_channels(channels)
        architecture = Architecture(resolution, multiplier, narrow)
        with torch.device("meta"):
            network = Discriminator(architecture)
        rename = partial(nvidia_discriminator_name, resolution=resolution) if is_nvidia else self.dialect.rename
        return architecture, from_public(self.tensors, _shapes(network), rename)


def find_generator(content: Mapping[Any, Any]) -> Found | None:
    """The generator in a file, its moving average where there is one."""
    return _first(content, (*AVERAGED, "", *TRAINED), GENERATORS)


def find_discriminator(content: Mapping[Any, Any]) -> tuple[Found | None, str]:
    """The discriminator in a file, and why there is none where it should be."""
    for key in JUDGES:
        if key in content:
            value = content[key]
            state = "is empty" if isinstance(value, Mapping) and not value else "holds no discriminator"
            found = _first(content, (key,), DISCRIMINATORS)
            return found, "" if found else f"its entry {key} {state}"
    return _first(content, ("", *AVERAGED, *TRAINED), DISCRIMINATORS), ""


def _first(content: Mapping[Any, Any], keys: tuple[str, ...], dialects: tuple[Dialect, ...]) -> Found | None:
    seen = {id(content)}
    for key in keys:
        for place, values in _below(content, key, seen) if key else [((), content)]:
            found = _find(place, _tensors(values), dialects)
            if found is not None:
                return found
    return None


Place = tuple[str, ...]


def _below(content: Mapping[Any, Any], key: str, seen: set[int]) -> Iterator[tuple[Place, Mapping[Any, Any]]]:
    """What lies under a key, after the wrappers in it: `model` → `state_dict`; each mapping once."""
    value = content.get(key)
    if not isinstance(value, Mapping) or id(value) in seen or len(seen) > MOST_MAPPINGS:
        return
    seen.add(id(value))
    for inner in AVERAGED + TRAINED:
        for place, values in _below(value, inner, seen):
            yield (key, *place), values
    yield (key,), value


def _tensors(values: Mapping[Any, Any]) -> dict[str, StoredTensor]:
    """The tensors of a state dict or of NVIDIA's network; none if a name is no text."""
    if isinstance(values.get("state"), Mapping) and isinstance(values.get("class_name"), str):
        return dict(_of_modules(values, "", set()))
    found = {name: value for name, value in values.items() if isinstance(value, StoredTensor)}
    return found if all(type(name) is str for name in found) else {}


def _of_modules(module: Mapping[Any, Any], prefix: str, seen: set[int]) -> Iterator[tuple[str, StoredTensor]]:
    """Parameters and buffers of a module as stylegan2-ada-pytorch pickles it, and of those in it."""
    state = module.get("state")
    if not isinstance(state, Mapping) or id(state) in seen or len(seen) > MOST_MAPPINGS:
        return
    seen.add(id(state))
    for group in ("_parameters", "_buffers"):
        values = state.get(group)
        for name, value in values.items() if isinstance(values, Mapping) else ():
            if isinstance(value, StoredTensor) and type(name) is str:
                yield f"{prefix}{name}", value
    modules = state.get("_modules")
    for name, inner in modules.items() if isinstance(modules, Mapping) else ():
        if isinstance(inner, Mapping) and type(name) is str:
            yield from _of_modules(inner, f"{prefix}{name}.", seen)


def _find(place: tuple[str, ...], tensors: Mapping[str, StoredTensor], dialects: tuple[Dialect, ...]) -> Found | None:
    """A network among tensors, under any prefix; of several one that is called a moving average, else the first."""
    for dialect in dialects:
        anchored = re.compile(rf"((?:.*\.)?){dialect.anchor.pattern}")
        prefixes = [found[1] for name in tensors if (found := anchored.fullmatch(name)) is not None]
        if not prefixes:
            continue
        prefix = min(prefixes, key=lambda name: "ema" not in name.lower())
        own = {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix) and dialect.own.match(name.removeprefix(prefix))
        }
        left_out = tuple(name for name in tensors if name.removeprefix(prefix) not in own)
        return Found(dialect, ".".join((*place, prefix.rstrip("."))).strip("."), own, left_out)
    return None


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}
