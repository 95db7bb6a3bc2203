"""Names of the same tensors in the public GPEN and StyleGAN2 (rosinality's format) checkpoints."""

import re
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from models.architecture import HIGHEST_RESOLUTION, Architecture
from models.operators.resampling import fir_kernel

NOT_LOADED = re.compile(r"(^|\.)(kernel|noises\.noise_\d+|noises\.\d+)$")
"""Public buffers that are no parameters: FIR kernels, which are checked, and the fixed noise of StyleGAN2."""

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


def from_public(
    public: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], rename: Callable[[str], str]
) -> dict[str, Tensor]:
    """Renames and reshapes the tensors of a public state dict.

    Args:
        public: Name to tensor, public names.
        shapes: Our name to our shape; public shapes differ in dimensions of size 1 only.
        rename: Our name to the public name.

    Returns:
        Our names to tensors of our shapes.

    Raises:
        ValueError: A tensor is missing, has another shape, is left over, or a FIR kernel is not [1, 3, 3, 1].
    """
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
        state[ours] = tensor.reshape(shapes[ours])
    return state


def architecture_of(prior: Mapping[str, Tensor]) -> Architecture:
    """Reads the architecture from the shapes of a public prior's tensors (names as in rosinality's format).

    Raises:
        ValueError: Tensors are missing or their shapes belong to no architecture of GPEN.
    """
    try:
        num_rgb = sum(1 for n in prior if re.fullmatch(r"to_rgbs\.\d+\.bias", n))
        channels = [prior["conv1.conv.weight"].shape[1]]
        channels += [prior[f"convs.{2 * i}.conv.weight"].shape[1] for i in range(num_rgb)]
        concat = prior["conv1.activate.bias"].shape[0] == 2 * channels[0]
        style_dim = prior["style.1.weight"].shape[1]
    except (KeyError, IndexError) as error:
        raise ValueError(f"a tensor of a StyleGAN2 decoder is missing or malformed ({error})") from error
    if 2 + num_rgb >= HIGHEST_RESOLUTION.bit_length() or min(channels) < 1:
        raise ValueError(f"{num_rgb + 1} resolutions with channels {channels[:9]} belong to no GPEN architecture")
    narrow = channels[0] / 512
    multiplier = 1 if num_rgb < 4 else max(round(channels[4] / (256 * narrow)), 1)
    architecture = Architecture(
        resolution=2 ** (2 + num_rgb),
        channel_multiplier=multiplier,
        narrow=narrow,
        noise_mode="concat" if concat else "add",
        style_dim=style_dim,
        num_mapping_layers=sum(1 for n in prior if re.fullmatch(r"style\.\d+\.weight", n)),
    )
    expected = [architecture.channels(r) for r in architecture.resolutions]
    if expected != channels:
        raise ValueError(f"channels {channels} from 4×4 upwards belong to no GPEN architecture (nearest: {expected})")
    return architecture


def _check_kernels(public: Mapping[str, Tensor]) -> None:
    expected = fir_kernel().flatten()
    for name, tensor in public.items():
        if not name.endswith("kernel"):
            continue
        kernel = tensor.flatten().float() if tensor.numel() == expected.numel() else tensor
        if kernel.shape != expected.shape or not torch.allclose(kernel / kernel.sum(), expected, atol=1e-3):
            raise ValueError(f"{name} is not the FIR kernel [1, 3, 3, 1]; such a network is not supported")


def _few(names: Iterable[str]) -> str:
    names = list(names)
    return "none" if not names else ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
