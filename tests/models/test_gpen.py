"""Which part of GPEN and of the prior depends on what."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import GPEN, Architecture, NoiseMode, Prior, load_generator, load_prior
from models.architecture import FedConvolutions
from models.gpen import noises_from_features
from models.layers import StyledLayer
from models.prior import MappingNetwork

WEIGHTS = Path(__file__).resolve().parents[2] / "weights"
MODES: tuple[NoiseMode, ...] = ("concat", "add", "none")
Tiny = Callable[..., Architecture]
Awaken = Callable[[nn.Module], GPEN]
MakeGPEN = Callable[..., GPEN]


@pytest.fixture
def make_gpen(tiny: Tiny, awaken: Awaken) -> MakeGPEN:
    """A network of a noise mode in which nothing is 0."""

    def make(noise_mode: NoiseMode, resolution: int = 32) -> GPEN:
        return awaken(GPEN(tiny(noise_mode, resolution))).eval()

    return make


def faces(number: int, resolution: int = 32) -> Tensor:
    return torch.rand(number, 3, resolution, resolution) * 2 - 1


def watch_layers(prior: Prior) -> list[Tensor]:
    """The list that the outputs of the styled layers are going to be appended to, in the order of their calls."""
    outputs: list[Tensor] = []
    for module in prior.modules():
        if isinstance(module, StyledLayer):
            module.register_forward_hook(lambda layer, inputs, output: outputs.append(output.detach().clone()))
    return outputs


@torch.no_grad()
def layers_that_differ(prior: Prior, one: tuple[Tensor, list[Tensor]], other: tuple[Tensor, list[Tensor]]) -> list[int]:
    """Indices of the styled layers that two (styles, noises) make differ; the last index + 1 stands for the image."""
    outputs = watch_layers(prior)
    images = [prior.synthesis(*inputs) for inputs in (one, other)]
    number = len(outputs) // 2
    pairs = [*zip(outputs[:number], outputs[number:], strict=True), images]
    return [index for index, (a, b) in enumerate(pairs) if not torch.equal(a, b)]


@pytest.mark.parametrize("noise_mode", MODES)
def test_every_parameter_of_gpen_gets_a_gradient(make_gpen: MakeGPEN, noise_mode: NoiseMode) -> None:
    generator = make_gpen(noise_mode)
    (generator(faces(2)) - faces(2)).abs().mean().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert float(parameter.grad.abs().max()) > 0, name


@pytest.mark.parametrize("noise_mode", MODES)
def test_every_parameter_of_the_prior_gets_a_gradient(tiny: Tiny, awaken: Awaken, noise_mode: NoiseMode) -> None:
    prior = awaken(Prior(tiny(noise_mode)))
    noises = [torch.randn(2, *shape) for shape in prior.synthesis.noise_shapes()]
    prior(torch.randn(2, 16), noises).square().mean().backward()
    for name, parameter in prior.named_parameters():
        assert parameter.grad is not None and float(parameter.grad.abs().max()) > 0, name


@pytest.mark.parametrize("noise_mode", ["concat", "add"])
def test_noise_strengths_start_at_zero_and_yet_get_a_gradient(tiny: Tiny, noise_mode: NoiseMode) -> None:
    generator = GPEN(tiny(noise_mode))
    # Concatenated noise of strength 0 with bias 0 lies on the corner of the leaky ReLU, where PyTorch's slope is 0.2.
    (generator(faces(2)) - faces(2)).abs().mean().backward()
    strengths = {n: p for n, p in generator.named_parameters() if n.endswith("noise_strength")}
    assert len(strengths) == 7
    for name, strength in strengths.items():
        assert strength.item() == 0 and strength.grad is not None and strength.grad.item() != 0, name


@pytest.mark.parametrize("noise_mode", ["concat", "add"])
def test_with_noise_strengths_of_zero_the_features_matter_through_the_latent_alone(
    tiny: Tiny, noise_mode: NoiseMode
) -> None:
    generator = GPEN(tiny(noise_mode))
    with torch.no_grad():
        latent, features = generator.encoder(faces(2))
        restored = generator.decoder(latent, noises_from_features(features))
        others = generator.decoder(latent, noises_from_features([torch.randn_like(f) for f in features]))
        other_latent = generator.decoder(torch.randn_like(latent), noises_from_features(features))
    assert torch.equal(restored, others)
    assert float((restored - other_latent).abs().max()) > 0.01


@pytest.mark.parametrize("noise_mode", MODES)
def test_the_encoder_learns_through_its_features_where_there_is_noise_to_replace(
    make_gpen: MakeGPEN, noise_mode: NoiseMode
) -> None:
    generator = make_gpen(noise_mode)
    latent, features = generator.encoder(faces(2))
    generator.decoder(latent.detach(), noises_from_features(features)).square().mean().backward()
    for name, parameter in generator.encoder.named_parameters():
        is_reached = parameter.grad is not None and float(parameter.grad.abs().max()) > 0
        assert is_reached == (noise_mode != "none" and not name.startswith("to_latent")), name


@pytest.mark.parametrize("level", range(5))
def test_the_feature_of_a_resolution_first_changes_the_layers_of_that_resolution(
    make_gpen: MakeGPEN, level: int
) -> None:
    generator = make_gpen("concat", 64)
    latent, features = generator.encoder(faces(2, 64))
    changed = [f + 1 if index == level else f for index, f in enumerate(features)]
    styles = generator.decoder.mapping(latent)[:, None].expand(-1, 10, -1)
    first = max(2 * level - 1, 0)
    different = layers_that_differ(
        generator.decoder, (styles, noises_from_features(features)), (styles, noises_from_features(changed))
    )
    assert different == list(range(first, 10))


@pytest.mark.parametrize("noise_mode", ["concat", "add"])
@pytest.mark.parametrize("layer", range(7))
def test_every_layer_takes_a_noise_of_its_own(make_gpen: MakeGPEN, noise_mode: NoiseMode, layer: int) -> None:
    prior = make_gpen(noise_mode).decoder
    noises = [torch.randn(2, *shape) for shape in prior.synthesis.noise_shapes()]
    changed = [noise + 1 if index == layer else noise for index, noise in enumerate(noises)]
    styles = torch.randn(2, 8, 16)
    assert layers_that_differ(prior, (styles, noises), (styles, changed)) == list(range(layer, 8))


def test_both_layers_of_a_resolution_take_the_same_feature_and_4x4_takes_its_own_once() -> None:
    features = [torch.zeros(1, 1, r, r) for r in (4, 8, 16)]
    taken = noises_from_features(features)
    assert [next(i for i, f in enumerate(features) if f is noise) for noise in taken] == [0, 1, 1, 2, 2]


@pytest.mark.parametrize("layer", range(8))
def test_the_style_of_a_layer_changes_that_layer_and_those_above(make_gpen: MakeGPEN, layer: int) -> None:
    prior = make_gpen("concat").decoder
    noises = [torch.randn(2, *shape) for shape in prior.synthesis.noise_shapes()]
    styles = torch.randn(2, 8, 16)
    changed = styles.clone()
    changed[:, layer] += 1
    # The last style is that of the last ToRGB: it changes the image (index 7) and no layer.
    assert layers_that_differ(prior, (styles, noises), (changed, noises)) == list(range(layer, 8))


@pytest.mark.parametrize("noise_mode", MODES)
def test_nothing_in_gpen_is_random(make_gpen: MakeGPEN, noise_mode: NoiseMode) -> None:
    generator, degraded = make_gpen(noise_mode), faces(2)
    state = torch.get_rng_state()
    with torch.no_grad():
        restored = [generator.train(training)(degraded) for training in (True, False, False)]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(restored[0], restored[1]) and torch.equal(restored[1], restored[2])


@pytest.mark.parametrize("noise_mode", MODES)
def test_an_image_of_a_batch_is_restored_as_if_it_were_alone(make_gpen: MakeGPEN, noise_mode: NoiseMode) -> None:
    generator, degraded = make_gpen(noise_mode), faces(4)
    with torch.no_grad():
        together = generator(degraded)
        alone = torch.cat([generator(image[None]) for image in degraded])
        reversed_order = generator(degraded.flip(0)).flip(0)
    assert float((together[0] - together[1]).abs().max()) > 0.1
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(reversed_order, together, rtol=1e-5, atol=1e-5)


def test_noise_mode_none_ignores_noise_and_features(make_gpen: MakeGPEN) -> None:
    generator = make_gpen("none")
    assert generator.decoder.synthesis.noise_shapes() == []
    with torch.no_grad():
        latent, features = generator.encoder(faces(2))
        without = generator.decoder(latent, [])
        assert torch.equal(generator.decoder(latent, noises_from_features(features)), without)
        assert torch.equal(generator.decoder(latent, [torch.randn(2, 1, 4, 4)] * 7), without)


def test_the_order_in_memory_of_the_input_plays_no_role(make_gpen: MakeGPEN) -> None:
    generator, degraded = make_gpen("concat"), faces(2)
    with torch.no_grad():
        restored = generator(degraded)
        assert torch.equal(generator(degraded.contiguous(memory_format=torch.channels_last)), restored)
        assert torch.equal(generator(degraded.mT.contiguous().mT), restored)


def test_encoding_leaves_the_degraded_image_and_the_features_as_they_are(make_gpen: MakeGPEN) -> None:
    generator, degraded = make_gpen("add"), faces(2)
    before = degraded.clone()
    with torch.no_grad():
        latent, features = generator.encoder(degraded)
        copies = [feature.clone() for feature in features]
        generator.decoder(latent, noises_from_features(features))
    assert torch.equal(degraded, before)
    assert all(torch.equal(f, c) for f, c in zip(features, copies, strict=True))


def test_the_length_of_a_latent_plays_no_role() -> None:
    mapping, latent = MappingNetwork(16, 2), torch.randn(4, 16)
    with torch.no_grad():
        torch.testing.assert_close(mapping(5 * latent), mapping(latent), rtol=1e-5, atol=1e-6)


def test_noise_of_another_strength_scales_added_noise_alone(make_gpen: MakeGPEN) -> None:
    prior = make_gpen("add").decoder
    noises, styles = [torch.randn(2, *shape) for shape in prior.synthesis.noise_shapes()], torch.randn(2, 8, 16)
    with torch.no_grad():
        before = prior.synthesis(styles, noises)
        for name, parameter in prior.named_parameters():
            if name.endswith("noise_strength"):
                parameter.mul_(2)
        halved = prior.synthesis(styles, [noise / 2 for noise in noises])
    torch.testing.assert_close(halved, before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("noise_mode", MODES)
def test_shapes_can_be_computed_without_memory(noise_mode: NoiseMode) -> None:
    with torch.device("meta"):
        restored = GPEN(Architecture(512, 2, 1.0, noise_mode))(torch.empty(2, 3, 512, 512))
    assert restored.is_meta and restored.shape == (2, 3, 512, 512) and restored.dtype == torch.float32


def test_restoring_under_autocast_is_close_to_restoring_without(make_gpen: MakeGPEN) -> None:
    generator, degraded = make_gpen("concat"), faces(2)
    with torch.no_grad():
        expected = generator(degraded)
        with torch.autocast("cpu", torch.bfloat16):
            restored = generator(degraded)
    assert restored.dtype == torch.float32
    assert 0 < float((restored - expected).square().mean().sqrt()) < 0.03 * float(expected.std())


def test_the_shipped_restorer_gives_the_same_faces_in_bf16() -> None:
    generator = load_generator(WEIGHTS / "gpen_64.safetensors").eval()
    with torch.no_grad():
        prior = load_prior(WEIGHTS / "prior_64.safetensors")
        noises = [torch.randn(8, *shape) for shape in prior.synthesis.noise_shapes()]
        drawn = prior(torch.randn(8, 512), noises).clamp(-1, 1)
        degraded = F.interpolate(F.avg_pool2d(drawn, 2), scale_factor=2, mode="bilinear")
        restored = generator(degraded).clamp(-1, 1)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = generator(degraded).clamp(-1, 1)
    errors = ((rounded - restored) / 2).square().mean((1, 2, 3))
    assert float(-10 * errors.max().log10()) > 40
    assert float(errors.min()) > 0


@pytest.mark.parametrize(("fed", "fed_layers"), [("both", range(7)), ("first", (0, 1, 3, 5)), ("second", (0, 2, 4, 6))])
def test_features_reach_the_convolutions_that_are_fed_and_no_others(
    make_gpen: MakeGPEN, fed: FedConvolutions, fed_layers: Sequence[int]
) -> None:
    generator = make_gpen("concat")
    _, features = generator.encoder(faces(2))
    noises = noises_from_features(features, fed)
    assert [n.shape[1:] for n in noises] == [torch.Size(s) for s in generator.decoder.synthesis.noise_shapes()]
    assert [index for index, noise in enumerate(noises) if noise.any()] == list(fed_layers)


def test_an_unfed_convolution_changes_what_is_restored(make_gpen: MakeGPEN) -> None:
    generator = make_gpen("add")
    degraded = faces(2)
    latent, features = generator.encoder(degraded)
    generator.architecture = replace(generator.architecture, fed_convolutions="second")
    expected = generator.decoder(latent, noises_from_features(features, "second"))
    assert torch.equal(generator(degraded), expected)
    assert not torch.equal(expected, generator.decoder(latent, noises_from_features(features)))
