"""The networks against recorded outputs of the public implementation on random weights."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from models import GPEN, Architecture, Discriminator, Prior, load_generator
from models.files.public_format import from_public, public_discriminator_name, public_generator_name
from models.layers import ModulatedConvolution
from models.operators.resampling import Downsample, LowPass, Upsample

TOLERANCE = 1e-5


def read(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def largest_difference(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).detach().abs().max())


@pytest.mark.parametrize("noise_mode", ["concat", "add"])
def test_generator_draws_what_the_public_one_drew(recorded: Path, noise_mode: str, tmp_path: Path) -> None:
    tensors = read(recorded / f"full_generator_64_{noise_mode}.safetensors")
    for content in (part(tensors, "state."), {"g_ema": part(tensors, "state.")}):
        torch.save(content, tmp_path / "public.pth")
        generator = load_generator(tmp_path / "public.pth")
        assert generator.architecture == Architecture(64, 1, 0.0625, noise_mode, 64, 3)  # type: ignore[arg-type]
        with torch.no_grad():
            latent, _ = generator.encoder(tensors["input"])
            styles = generator.decoder.mapping(latent)
            restored = generator(tensors["input"])
        for layer in range(tensors["expected.latents"].shape[1]):
            assert largest_difference(styles, tensors["expected.latents"][:, layer]) < TOLERANCE
        assert largest_difference(restored, tensors["expected.image"]) < TOLERANCE


def test_discriminator_gives_the_recorded_logits_and_r1_penalty(recorded: Path) -> None:
    tensors = read(recorded / "discriminator_64.safetensors")
    discriminator = Discriminator(Architecture(64, 1, 0.0625, style_dim=64), minibatch_group_size=None)
    shapes = {n: t.shape for n, t in discriminator.state_dict().items()}
    discriminator.load_state_dict(from_public(part(tensors, "state."), shapes, public_discriminator_name))
    image = tensors["input"].requires_grad_()
    logits = discriminator(image).logits
    assert largest_difference(logits[:, None], tensors["expected.logits"]) < TOLERANCE
    (gradient,) = torch.autograd.grad(logits.sum(), image)
    penalty = gradient.square().sum(dim=(1, 2, 3)).mean()
    assert float(penalty) == pytest.approx(float(tensors["expected.r1_penalty"]), rel=1e-5)


@pytest.mark.parametrize(("case", "upsample", "demodulate"), [("plain", 0, 1), ("up", 1, 1), ("nodemod", 0, 0)])
def test_modulated_convolution_equals_the_recorded_one(
    recorded: Path, case: str, upsample: bool, demodulate: bool
) -> None:
    tensors = part(read(recorded / "layers.safetensors"), f"{case}.")
    layer = ModulatedConvolution(6, 5, 3, 7, upsample=bool(upsample), demodulate=bool(demodulate))
    layer.load_state_dict(
        {
            "weight": tensors["state.weight"][0],
            "modulation.weight": tensors["state.modulation.weight"],
            "modulation.bias": tensors["state.modulation.bias"],
        }
    )
    with torch.no_grad():
        assert largest_difference(layer(tensors["input"], tensors["style"]), tensors["expected"]) < TOLERANCE


def test_low_pass_and_resampling_equal_the_recorded_ones(recorded: Path) -> None:
    tensors = read(recorded / "layers.safetensors")
    up = Upsample(3)(tensors["upsample.input"])
    down = Downsample(3)(tensors["downsample.input"])
    # The recorded blur keeps the size: two zeros before and one after. LowPass pads both sides alike.
    blurred = LowPass(3, padding=2)(tensors["blur.input"])[:, :, :-1, :-1]
    assert largest_difference(up, tensors["upsample.expected"]) < TOLERANCE
    assert largest_difference(down, tensors["downsample.expected"]) < TOLERANCE
    assert largest_difference(blurred, tensors["blur.expected"]) < TOLERANCE


@pytest.mark.parametrize(("resolution", "multiplier", "narrow"), [(256, 1, 0.5), (512, 2, 1.0)])
def test_every_tensor_of_the_public_checkpoints_has_its_place(
    recorded: Path, resolution: int, multiplier: int, narrow: float
) -> None:
    keys = json.loads((recorded / f"checkpoint_keys_{resolution}.json").read_text())
    architecture = Architecture(resolution, multiplier, narrow)
    with torch.device("meta"):
        generator, discriminator = GPEN(architecture), Discriminator(architecture)
    for part_name, network, rename in (
        ("generator", generator, public_generator_name),
        ("discriminator", discriminator, public_discriminator_name),
    ):
        ours = {rename(n): [s for s in t.shape if s != 1] for n, t in network.state_dict().items()}
        public = {n: [s for s in shape if s != 1] for n, shape in keys[part_name].items() if not n.endswith("kernel")}
        assert ours == public


@pytest.mark.parametrize(
    ("architecture", "generator_parameters", "discriminator_parameters"),
    [
        (Architecture(512, 2, 1.0), 71_005_223, 28_982_849),
        (Architecture(512, 2, 1.0, "add"), 45_460_071, 28_982_849),
        (Architecture(256, 1, 0.5), 18_879_010, 6_002_977),
    ],
)
def test_parameter_counts_are_the_public_ones(
    architecture: Architecture, generator_parameters: int, discriminator_parameters: int
) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in GPEN(architecture).parameters()) == generator_parameters
        assert sum(p.numel() for p in Discriminator(architecture).parameters()) == discriminator_parameters


def test_prior_inside_gpen_is_the_prior(recorded: Path) -> None:
    tensors = read(recorded / "full_generator_64_add.safetensors")
    architecture = Architecture(64, 1, 0.0625, "add", 64, 3)
    gpen, prior = GPEN(architecture), Prior(architecture)
    shapes = {n: t.shape for n, t in gpen.state_dict().items()}
    gpen.load_state_dict(from_public(part(tensors, "state."), shapes, public_generator_name))
    prior.load_state_dict(gpen.decoder.state_dict())
    latent = torch.randn(2, 64)
    noises = [torch.randn(2, *shape) for shape in prior.synthesis.noise_shapes()]
    with torch.no_grad():
        assert torch.equal(prior(latent, noises), gpen.decoder(latent, noises))
