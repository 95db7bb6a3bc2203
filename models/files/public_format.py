"""Names of the tensors in public GPEN's, rosinality's and NVIDIA's files, and added noise turned into concatenated."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from models.architecture import HIGHEST_RESOLUTION, Architecture
from models.files.stored_tensor import StoredTensor
from models.operators.resampling import fir_kernel
from models.prior import Prior
from system.wording import counted

Rename = Callable[[str], str]
AnyTensor = TypeVar("AnyTensor", Tensor, StoredTensor)
NOT_LOADED = re.compile(r"(^|\.)(kernel|resample_filter|noises\.noise_\d+|noises\.\d+|noise_const|w_avg)$")
"""Public buffers that are no parameters: FIR kernels, which are checked, the fixed noise and the mean of StyleGAN2."""

_LAYER = (
    (r"\.convolution\.", ".conv."),
    (r"\.noise_strength$", ".noise.weight"),
    (r"^((?:conv1|convs\.\d+))\.bias$", r"\1.activate.bias"),
)


def public_prior_name(name: str) -> str:
    """The public name of a tensor of `Prior`."""
    name = re.sub(r"^mapping\.layers\.(\d+)", lambda m: f"style.{int(m[1]) + 1}", name)
    name = re.sub(r"^synthesis\.constant$", "input.input", name)
    name = re.sub(r"^synthesis\.blocks\.0\.plain", "conv1", name)
    name = re.sub(r"^synthesis\.blocks\.0\.to_rgb", "to_rgb1", name)
    name = re.sub(r"^synthesis\.blocks\.(\d+)\.up", lambda m: f"convs.{2 * int(m[1]) - 2}", name)
    name = re.sub(r"^synthesis\.blocks\.(\d+)\.plain", lambda m: f"convs.{2 * int(m[1]) - 1}", name)
    name = re.sub(r"^synthesis\.blocks\.(\d+)\.to_rgb", lambda m: f"to_rgbs.{int(m[1]) - 1}", name)
    for pattern, replacement in _LAYER:
        name = re.sub(pattern, replacement, name)
    return name


def public_generator_name(name: str) -> str:
    """The public name of a tensor of `GPEN`."""
    if name.startswith("decoder."):
        return f"generator.{public_prior_name(name.removeprefix('decoder.'))}"
    name = re.sub(r"^encoder\.from_rgb\.weight$", "ecd0.0.0.weight", name)
    name = re.sub(r"^encoder\.from_rgb\.bias$", "ecd0.0.1.bias", name)
    name = re.sub(r"^encoder\.downs\.(\d+)\.1\.weight$", lambda m: f"ecd{int(m[1]) + 1}.0.1.weight", name)
    name = re.sub(r"^encoder\.downs\.(\d+)\.1\.bias$", lambda m: f"ecd{int(m[1]) + 1}.0.2.bias", name)
    return re.sub(r"^encoder\.to_latent\.", "final_linear.0.", name)


def public_discriminator_name(name: str) -> str:
    """The public name of a tensor of `Discriminator`."""
    name = re.sub(r"^blocks\.(\d+)", lambda m: f"convs.{int(m[1]) + 1}", name)
    name = re.sub(r"^from_rgb\.", "convs.0.conv.", name)
    name = re.sub(r"\.plain\.", ".conv1.conv.", name)
    name = re.sub(r"^final\.", "final_conv.conv.", name)
    name = re.sub(r"\.conv\.weight$", ".0.weight", name)
    name = re.sub(r"\.conv\.bias$", ".1.bias", name)
    name = re.sub(r"\.down\.weight$", ".conv2.1.weight", name)
    name = re.sub(r"\.down\.bias$", ".conv2.2.bias", name)
    name = re.sub(r"\.skip\.weight$", ".skip.1.weight", name)
    name = re.sub(r"^hidden\.", "final_linear.0.", name)
    return re.sub(r"^to_logit\.", "final_linear.1.", name)


def nvidia_prior_name(name: str) -> str:
    """The name of a tensor of `Prior` in stylegan2-ada-pytorch, whose conventions of scale are the same."""
    name = re.sub(r"^mapping\.layers\.", "mapping.fc", name)
    name = re.sub(r"^synthesis\.constant$", "synthesis.b4.const", name)
    name = re.sub(r"^synthesis\.blocks\.(\d+)", lambda m: f"synthesis.b{4 << int(m[1])}", name)
    for pattern, replacement in ((r"\.up\.", ".conv0."), (r"\.plain\.", ".conv1."), (r"\.to_rgb\.", ".torgb.")):
        name = re.sub(pattern, replacement, name)
    return name.replace(".convolution.modulation.", ".affine.").replace(".convolution.", ".")


def nvidia_discriminator_name(name: str, resolution: int) -> str:
    """The name of a tensor of `Discriminator` in stylegan2-ada-pytorch."""
    name = re.sub(r"^from_rgb", f"b{resolution}.fromrgb", name)
    name = re.sub(r"^blocks\.(\d+)", lambda m: f"b{resolution >> int(m[1])}", name)
    name = name.replace(".plain.", ".conv0.").replace(".down.", ".conv1.")
    return re.sub(r"^(final|hidden|to_logit)\.", lambda m: _NVIDIA_ENDS[m[1]], name)


_NVIDIA_ENDS = {"final": "b4.conv.", "hidden": "b4.fc.", "to_logit": "b4.out."}


def to_public(state: Mapping[str, Tensor], rename: Rename) -> dict[str, Tensor]:
    """A state dict of a `GPEN`, `Prior` or `Discriminator` as the public code saves it: its names, by the function
    above for that network, its dimensions of size 1, its buffers with FIR kernels."""
    public = {}
    for name, tensor in state.items():
        theirs = rename(name)
        shape = (1, *tensor.shape) if name.endswith("convolution.weight") else tuple(tensor.shape)
        if name.endswith("to_rgb.bias"):
            shape = (1, *tensor.shape, 1, 1)
        public[theirs] = tensor.detach().cpu().reshape(shape).contiguous().clone()
        for pattern, kernel, gain in _KERNELS:
            if re.search(pattern, theirs):
                public[re.sub(pattern, kernel, theirs)] = fir_kernel(gain)[0, 0]
    return public


_KERNELS = (
    (r"(convs\.\d*[02468]\.conv)\.weight$", r"\1.blur.kernel", 4.0),
    (r"(to_rgbs\.\d+)\.conv\.weight$", r"\1.upsample.kernel", 4.0),
    (r"^(ecd[1-9]\d*\.0)\.1\.weight$", r"\1.0.kernel", 1.0),
    (r"^(convs\.\d+\.(conv2|skip))\.1\.weight$", r"\1.0.kernel", 1.0),
)
"""Which layer of the public networks holds a kernel, how it is called and what its sum is."""


def from_public(
    public: Mapping[str, AnyTensor], shapes: Mapping[str, torch.Size], rename: Rename
) -> dict[str, AnyTensor]:
    """Renames and reshapes the tensors of a public state dict to our shapes by our names, from which these differ in
    dimensions of size 1 only; `rename` makes the public name of ours. ValueError where a tensor is missing, has another
    shape, is left over, or a FIR kernel is not [1, 3, 3, 1]."""
    public_names = {name: rename(name) for name in shapes}
    missing = [theirs for theirs in public_names.values() if theirs not in public]
    left_over = [n for n in public if n not in set(public_names.values()) and not NOT_LOADED.search(n)]
    if missing or left_over:
        raise ValueError(
            f"the tensors are not those of the expected network: {_few(missing)} missing, {_few(left_over)} unexpected"
        )
    _check_kernels(public)
    state = {}
    for ours, theirs in public_names.items():
        tensor = public[theirs]
        if [s for s in tensor.shape if s != 1] != [s for s in shapes[ours] if s != 1]:
            raise ValueError(f"{theirs} has shape {tuple(tensor.shape)}, expected {tuple(shapes[ours])}")
        state[ours] = tensor.reshape(tuple(shapes[ours]))
    return state


def architecture_of(tensors: Mapping[str, StoredTensor], rename: Rename, is_gpen: bool) -> Architecture:
    """Reads the architecture from the shapes of a generator's tensors under their names, which `rename` makes of ours.
    Raises ValueError where tensors are missing or their shapes belong to no architecture of GPEN."""

    def theirs(name: str) -> str:
        return rename(f"decoder.{name}" if is_gpen else name)

    try:
        blocks = _count(tensors, theirs, "synthesis.blocks.{}.to_rgb.bias")
        weights = [f"synthesis.blocks.{i}.{'up' if i else 'plain'}.convolution.weight" for i in range(blocks)]
        channels = [tensors[theirs(name)].shape[-4] for name in weights]
        is_concat = tensors[theirs("synthesis.blocks.0.plain.bias")].shape[0] == 2 * channels[0]
        style_dim = tensors[theirs("mapping.layers.0.weight")].shape[1]
    except (KeyError, IndexError) as error:
        raise ValueError(f"a tensor of a StyleGAN2 decoder is missing or malformed ({error})") from error
    resolution, multiplier, narrow = architecture_of_channels(channels)
    downs = [i for i in range(blocks) if is_gpen and rename(f"encoder.downs.{i}.1.weight") in tensors]
    encoder_resolution = 4 << (max(downs) + 1) if downs else resolution  # a gap is named as a tensor that is missing
    return Architecture(
        resolution=resolution,
        channel_multiplier=multiplier,
        narrow=narrow,
        noise_mode="concat" if is_concat else "add",
        style_dim=style_dim,
        num_mapping_layers=_count(tensors, theirs, "mapping.layers.{}.weight"),
        encoder_resolution=None if encoder_resolution == resolution else encoder_resolution,
    )


def architecture_of_channels(channels: Sequence[int]) -> tuple[int, int, float]:
    """Resolution, channel multiplier and narrow of a network with these channels, from 4×4 upwards; ValueError where
    they belong to no architecture of GPEN."""
    if len(channels) < 2 or len(channels) + 1 >= HIGHEST_RESOLUTION.bit_length() or min(channels) < 1:
        raise ValueError(
            f"{counted(len(channels), 'resolution')} with channels {list(channels[:9])} belong to no GPEN architecture"
        )
    narrow = channels[0] / 512
    multiplier = 1 if len(channels) < 5 else max(round(channels[4] / (256 * narrow)), 1)
    architecture = Architecture(2 ** (len(channels) + 1), multiplier, narrow)
    expected = [architecture.channels(r) for r in architecture.resolutions]
    if expected != list(channels):
        raise ValueError(
            f"channels {list(channels)} from 4×4 upwards belong to no GPEN architecture (nearest: {expected})"
        )
    return architecture.resolution, multiplier, narrow


def _count(tensors: Mapping[str, Any], rename: Rename, pattern: str) -> int:
    """How many tensors there are of a pattern, numbered from 0."""
    return next(number for number in range(len(tensors) + 1) if rename(pattern.format(number)) not in tensors)


def _check_kernels(public: Mapping[str, AnyTensor]) -> None:
    expected = fir_kernel().flatten()
    for name, tensor in public.items():
        if not name.endswith(("kernel", "resample_filter")):
            continue
        is_small = math.prod(tensor.shape) == expected.numel()
        kernel = (tensor.read() if isinstance(tensor, StoredTensor) else tensor).flatten().float() if is_small else None
        if kernel is None or not torch.allclose(kernel / kernel.sum(), expected, atol=1e-3):
            raise ValueError(f"{name} is not the FIR kernel [1, 3, 3, 1]; such a network is not supported")


def _few(names: Iterable[str]) -> str:
    names = list(names)
    return "none" if not names else ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def widen_to_concat(state: Mapping[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """Turns the state of a prior with added noise into one with concatenated noise that draws the same without noise.

    Every layer that will read 2C channels gets zero weights for the new ones; the noise strengths start at 0, as in an
    untrained network. Raises ValueError where the noise mode is another than `add`.
    """
    if architecture.noise_mode != "add":
        raise ValueError(f"only a prior with noise mode add can be widened, got {architecture.noise_mode}")
    with torch.device("meta"):
        shapes = {n: t.shape for n, t in Prior(replace(architecture, noise_mode="concat")).state_dict().items()}
    return {name: _widen(name, tensor, shapes[name]) for name, tensor in state.items()}


def drop_blocks(state: Mapping[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """Leaves out the layers of a prior's state above a smaller architecture; what is left draws the image so far."""
    with torch.device("meta"):
        names = Prior(architecture).state_dict()
    return {name: tensor for name, tensor in state.items() if name in names or not name.startswith("synthesis.blocks.")}


def _widen(name: str, tensor: Tensor, shape: torch.Size) -> Tensor:
    if name.endswith("noise_strength"):
        return torch.zeros_like(tensor)
    if tensor.shape == shape:
        return tensor
    # New modulations start like those of a new network: 1 whatever the style.
    wide = torch.full(shape, 1.0 if name.endswith("modulation.bias") else 0.0)
    if name.endswith("convolution.weight"):
        # ToRGB has no demodulation that would undo the smaller scale 1/√(fan in) of twice the channels.
        wide[:, : tensor.shape[1]] = tensor * (math.sqrt(2) if ".to_rgb." in name else 1.0)
    else:
        wide[: tensor.shape[0]] = tensor
    return wide


def from_unit_range(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turns the state of a GPEN between images in [0, 1] into one between images in [-1, 1], exactly but for rounding.

    (x + 1) / 2 goes into the first convolution, whose kernel is 1×1, and 2 y - 1 into the layers that draw.

    Source: the demonstration of public GPEN feeds Seg2face with `is_norm=False`, all other models with [-1, 1].
    """
    first = state["encoder.from_rgb.weight"]  # [C, 3, 1, 1], scaled by 1/√3 when it is used
    changed = {
        name: 2 * tensor for name, tensor in state.items() if re.search(r"to_rgb\.(bias|convolution\.weight)$", name)
    }
    changed["encoder.from_rgb.weight"] = first / 2
    changed["encoder.from_rgb.bias"] = state["encoder.from_rgb.bias"] + first.sum((1, 2, 3)) / (2 * math.sqrt(3))
    last = [name for name in changed if name.endswith("to_rgb.bias")][-1]
    return {**state, **changed, last: changed[last] - 1}
