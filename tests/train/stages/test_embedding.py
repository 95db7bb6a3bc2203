"""A prior becomes the decoder tensor for tensor, and what does not fit is named."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import GPEN, Architecture, Discriminator, Prior, save_release
from models.files.public_format import public_discriminator_name, public_generator_name, public_prior_name
from models.gpen import noises_from_features
from models.operators.resampling import LowPass
from train.stages.embedding import Transfer, describe, describe_checksums, start_networks

State = dict[str, Tensor]
Write = Callable[..., Path]


def state_of(network: nn.Module) -> State:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(network: nn.Module, state: State) -> list[bool]:
    current = network.state_dict()
    assert current.keys() == state.keys()
    return [torch.equal(current[name], state[name]) for name in state]


def randomize(network: nn.Module) -> nn.Module:
    """Makes every parameter differ from any initial value."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


@pytest.fixture
def architecture(tiny: Architecture) -> Architecture:
    """That of the run."""
    return tiny


@pytest.fixture
def networks(architecture: Architecture) -> tuple[GPEN, Discriminator]:
    """The new networks of stage 2."""
    torch.manual_seed(5)
    return GPEN(architecture), Discriminator(architecture, 2)


@pytest.fixture
def write(tmp_path: Path, architecture: Architecture) -> Write:
    """Writes a prior or a GPEN with changes to its architecture, maybe with a discriminator."""

    def make(make_network: Callable[[Architecture], Any], with_discriminator: bool = True, **changes: Any) -> Path:
        stored = replace(architecture, **changes)
        generator = randomize(make_network(stored))
        discriminator = randomize(Discriminator(stored, 2)) if with_discriminator else None
        save_release(tmp_path / "start.safetensors", generator, discriminator, numbers="float32")  # type: ignore[arg-type]
        torch.save([state_of(generator), state_of(discriminator) if discriminator else None], tmp_path / "states.pt")
        return tmp_path / "start.safetensors"

    return make


def states_beside(path: Path) -> tuple[State, State]:
    generator, discriminator = torch.load(path.with_name("states.pt"))
    return generator, discriminator


def test_a_prior_becomes_the_decoder_tensor_for_tensor_and_the_encoder_stays_new(
    networks: tuple[GPEN, Discriminator], write: Write
) -> None:
    generator, discriminator = networks
    path, encoder = write(Prior), state_of(generator.encoder)
    transfers = start_networks(path, generator, discriminator)
    prior, judge = states_beside(path)
    assert all(same(generator.decoder, prior))
    assert all(same(generator.encoder, encoder))
    assert all(same(discriminator, judge))
    assert transfers == [
        Transfer("encoder", "new weights", len(encoder)),
        Transfer("decoder", str(path), len(prior)),
        Transfer("discriminator", str(path), len(judge)),
    ]
    assert describe(transfers) == (
        f"start: encoder from new weights ({len(encoder)} tensors); decoder from {path} ({len(prior)} tensors); "
        f"discriminator from {path} ({len(judge)} tensors)"
    )


def test_an_embedded_prior_still_draws_what_it_drew(
    networks: tuple[GPEN, Discriminator], write: Write, architecture: Architecture
) -> None:
    generator, discriminator = networks
    path = write(Prior)
    start_networks(path, generator, discriminator)
    prior = Prior(architecture)
    prior.load_state_dict(states_beside(path)[0])
    with torch.no_grad():
        latent, features = generator.encoder(torch.rand(2, 3, 32, 32))
        restored = generator.decoder(latent, noises_from_features(features))
        assert torch.equal(restored, prior(latent, noises_from_features(features)))


def test_the_discriminator_stays_new_where_that_is_asked_for(
    networks: tuple[GPEN, Discriminator], write: Write
) -> None:
    generator, discriminator = networks
    before = state_of(discriminator)
    transfers = start_networks(write(Prior), generator, discriminator, take_discriminator=False)
    assert all(same(discriminator, before))
    assert transfers[-1] == Transfer("discriminator", "new weights", len(before))


def test_a_finished_restoration_network_goes_on_with_all_its_weights(
    networks: tuple[GPEN, Discriminator], write: Write
) -> None:
    generator, discriminator = networks
    path = write(GPEN)
    transfers = start_networks(path, generator, discriminator)
    stored, judge = states_beside(path)
    assert all(same(generator, stored)) and all(same(discriminator, judge))
    assert [t.part for t in transfers] == ["encoder and decoder", "discriminator"]


def test_without_a_checkpoint_all_weights_stay_new(networks: tuple[GPEN, Discriminator]) -> None:
    generator, discriminator = networks
    before = state_of(generator), state_of(discriminator)
    transfers = start_networks(None, generator, discriminator)
    assert all(same(generator, before[0])) and all(same(discriminator, before[1]))
    assert [t.part for t in transfers] == ["encoder", "decoder", "discriminator"]
    assert {t.origin for t in transfers} == {"new weights"}
    assert sum(t.num_tensors for t in transfers) == len(before[0]) + len(before[1])


@pytest.mark.parametrize("make_network", [Prior, GPEN])
def test_a_missing_discriminator_is_named_with_the_way_out(
    networks: tuple[GPEN, Discriminator], write: Write, make_network: Callable[[Architecture], nn.Module]
) -> None:
    path = write(make_network, with_discriminator=False)
    with pytest.raises(ValueError) as raised:
        start_networks(path, *networks)
    expected = f"{path} holds no discriminator; take a new one: --model.init_args.optimization.take_discriminator false"
    assert str(raised.value) == expected
    start_networks(path, *networks, take_discriminator=False)


DIFFERENCES: list[tuple[dict[str, Any], str]] = [
    ({"narrow": 0.03125}, "narrow 0.03125 instead of 0.0625"),
    ({"noise_mode": "none"}, "noise_mode none instead of concat"),
    ({"style_dim": 16, "num_mapping_layers": 1}, "style_dim 16 instead of 32, num_mapping_layers 1 instead of 2"),
]


@pytest.mark.parametrize(
    ("make_network", "changes", "difference"),
    [
        *((network, *difference) for network in (Prior, GPEN) for difference in DIFFERENCES),
        (GPEN, {"resolution": 64}, "resolution 64 instead of 32"),  # of a larger prior the lower layers are taken
    ],
)
def test_another_architecture_is_refused_with_the_difference(
    networks: tuple[GPEN, Discriminator],
    write: Write,
    make_network: Callable[[Architecture], nn.Module],
    changes: dict[str, Any],
    difference: str,
) -> None:
    path, before = write(make_network, **changes), state_of(networks[0])
    with pytest.raises(ValueError) as raised:
        start_networks(path, *networks)
    assert str(raised.value) == f"{path} has {difference}; change the run's architecture or take another checkpoint"
    assert all(same(networks[0], before))


def test_a_prior_with_added_noise_is_widened_and_draws_the_same(
    networks: tuple[GPEN, Discriminator], write: Write, architecture: Architecture
) -> None:
    generator, discriminator = networks
    path = write(Prior, noise_mode="add")
    start_networks(path, generator, discriminator)
    prior = Prior(replace(architecture, noise_mode="add"))
    prior.load_state_dict(states_beside(path)[0])
    latent = torch.randn(2, architecture.style_dim)
    silent = [torch.zeros(2, *shape) for shape in prior.synthesis.noise_shapes()]
    features = [torch.randn(2, *shape) for shape in generator.decoder.synthesis.noise_shapes()]
    with torch.no_grad():
        expected = prior(latent, silent)
        assert float(expected.std()) > 0.1
        torch.testing.assert_close(generator.decoder(latent, features), expected, rtol=1e-5, atol=1e-5)


def test_a_prior_with_added_noise_of_another_size_is_refused_with_the_difference(
    networks: tuple[GPEN, Discriminator], write: Write
) -> None:
    path = write(Prior, noise_mode="add", narrow=0.125)
    with pytest.raises(ValueError, match=r"has narrow 0\.125 instead of 0\.0625; change"):
        start_networks(path, *networks)


def test_a_missing_file_is_named(networks: tuple[GPEN, Discriminator], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no checkpoint at"):
        start_networks(tmp_path / "nothing.safetensors", *networks)


def public(network: nn.Module, rename: Callable[[str], str]) -> State:
    """A state dict as others write it."""
    state = network.state_dict()
    return {rename(n): t[None].clone() if n.endswith("convolution.weight") else t for n, t in state.items()}


def test_a_public_file_without_discriminator_takes_a_new_one_and_says_so(
    networks: tuple[GPEN, Discriminator], architecture: Architecture, tmp_path: Path
) -> None:
    stored, before = randomize(GPEN(architecture)), state_of(networks[1])
    torch.save(public(stored, public_generator_name), tmp_path / "GPEN.pth")
    transfers = start_networks(tmp_path / "GPEN.pth", *networks)
    assert all(same(networks[0], state_of(stored))) and all(same(networks[1], before))
    assert describe(transfers).endswith(
        f"; discriminator from new weights ({len(before)} tensors, as GPEN.pth holds none)"
    )


def test_a_discriminator_comes_from_a_file_of_its_own(
    networks: tuple[GPEN, Discriminator], architecture: Architecture, write: Write, tmp_path: Path
) -> None:
    judge = randomize(Discriminator(architecture))
    torch.save(public(judge, public_discriminator_name), tmp_path / "D.pth")
    transfers = start_networks(write(Prior), *networks, discriminator_path=tmp_path / "D.pth")
    assert all(same(networks[1], state_of(judge)))
    assert transfers[-1] == Transfer("discriminator", str(tmp_path / "D.pth"), len(judge.state_dict()))
    assert start_networks(None, *networks, discriminator_path=tmp_path / "D.pth")[-1] == transfers[-1]
    with pytest.raises(
        ValueError, match=r"GPEN\.pth holds a generator and no discriminator; name another file or take"
    ):
        torch.save(public(GPEN(architecture), public_generator_name), tmp_path / "GPEN.pth")
        start_networks(None, *networks, discriminator_path=tmp_path / "GPEN.pth")


def test_a_discriminator_of_another_width_stops_only_those_who_want_it(
    networks: tuple[GPEN, Discriminator], architecture: Architecture, tmp_path: Path
) -> None:
    wide = Discriminator(replace(architecture, narrow=2 * architecture.narrow))
    content = {"g_ema": public(GPEN(architecture), public_generator_name), "d": public(wide, public_discriminator_name)}
    torch.save(content, tmp_path / "training.pth")
    start_networks(tmp_path / "training.pth", *networks, take_discriminator=False)
    with pytest.raises(
        ValueError, match=r"training\.pth has channels \(64, .+ instead of \(32, .+ take a new one: --model"
    ):
        start_networks(tmp_path / "training.pth", *networks)


def test_an_empty_entry_for_the_discriminator_is_named(
    networks: tuple[GPEN, Discriminator], architecture: Architecture, tmp_path: Path
) -> None:
    prior = Prior(replace(architecture, noise_mode="add"))
    torch.save({"g_ema": public(prior, public_prior_name), "d": {}}, tmp_path / "550000.pt")
    with pytest.raises(ValueError, match=r"550000\.pt holds no discriminator: its entry d is empty; take a new one"):
        start_networks(tmp_path / "550000.pt", *networks)


@pytest.mark.parametrize("noise_mode", ["concat", "add"])
def test_a_larger_prior_gives_its_lower_layers_and_says_so(
    networks: tuple[GPEN, Discriminator], architecture: Architecture, write: Write, noise_mode: str
) -> None:
    path, before = write(Prior, resolution=128, noise_mode=noise_mode), state_of(networks[1])
    transfers = start_networks(path, *networks)
    large = Prior(replace(architecture, resolution=128, noise_mode=noise_mode))  # type: ignore[arg-type]
    large.load_state_dict(states_beside(path)[0])
    assert "layers above 32 pixels left out of 128" in transfers[1].note
    assert transfers[2].note == f"as that of {path.name} judges larger faces" and all(same(networks[1], before))
    synthesis, seen = large.synthesis, []
    synthesis.blocks[3].register_forward_hook(lambda module, inputs, output: seen.append(output[1]))
    latent = torch.randn(2, architecture.style_dim)
    with torch.no_grad():
        noises = [torch.zeros(2, *shape) for shape in synthesis.noise_shapes()]
        large(latent, noises)
        silent = [torch.zeros(2, *shape) for shape in networks[0].decoder.synthesis.noise_shapes()]
        torch.testing.assert_close(networks[0].decoder(latent, silent), seen[0], rtol=1e-5, atol=1e-5)


@pytest.fixture
def larger(architecture: Architecture) -> tuple[GPEN, Discriminator]:
    """New networks of four times the size, wide enough to grow."""
    torch.manual_seed(7)
    large = replace(architecture, resolution=128, channel_multiplier=4)
    return GPEN(large), Discriminator(large, 2)


@pytest.mark.parametrize("noise_mode", ["concat", "add"])
@torch.no_grad()
def test_a_larger_prior_grows_from_a_smaller_one_and_draws_the_same_enlarged(
    larger: tuple[GPEN, Discriminator], write: Write, noise_mode: str
) -> None:
    small, (generator, discriminator) = Prior(larger[0].architecture), larger
    path = write(Prior, channel_multiplier=4, noise_mode=noise_mode, with_discriminator=False)
    transfers = start_networks(path, generator, discriminator, take_discriminator=False)
    assert transfers[1].note.endswith("grown from 32 pixels")
    small = Prior(replace(larger[0].architecture, resolution=32, noise_mode=noise_mode))  # type: ignore[arg-type]
    small.load_state_dict(states_beside(path)[0])
    latent = torch.randn(2, small.architecture.style_dim)
    few, many = (
        [torch.zeros(2, *shape) for shape in network.synthesis.noise_shapes()] for network in (small, generator.decoder)
    )
    expected = small(latent, few)
    for block in list(generator.decoder.synthesis.blocks)[-2:]:
        expected = block.to_rgb.upsample(expected)
    torch.testing.assert_close(generator.decoder(latent, many), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_larger_restorer_grows_from_a_smaller_one_and_restores_the_reduced_face(
    larger: tuple[GPEN, Discriminator], write: Write
) -> None:
    generator, discriminator = larger
    path = write(GPEN, channel_multiplier=4, with_discriminator=False)
    transfers = start_networks(path, generator, discriminator, take_discriminator=False)
    assert (transfers[0].part, transfers[0].note) == ("encoder and decoder", "grown from 32 pixels")
    small = GPEN(replace(generator.architecture, resolution=32))
    small.load_state_dict(states_beside(path)[0])
    face = 0.5 * torch.randn(2, 3, 8, 8).repeat_interleave(16, 2).repeat_interleave(16, 3)
    reduced = face
    for _ in range(2):
        reduced = LowPass(3, padding=2)(reduced)[:, :, 1:-1:2, 1:-1:2]
    features = generator.encoder(face)[1]  # from 4 pixels upwards
    inside = (..., slice(3, -3), slice(3, -3))  # beyond the edge each layer's filter sees zeros of its own
    torch.testing.assert_close(features[3][inside], small.encoder.from_rgb(reduced)[inside], rtol=1e-4, atol=1e-4)
    assert torch.isfinite(generator(face)).all()


def test_a_network_too_narrow_to_grow_is_refused_with_the_way_out(architecture: Architecture, write: Write) -> None:
    large = replace(architecture, resolution=512)
    with pytest.raises(ValueError, match=r"growing takes 6 channels .* got 2; take a wider network \(narrow"):
        start_networks(write(GPEN), GPEN(large), Discriminator(large, 2), take_discriminator=False)


def test_checksums_tell_which_weights_a_run_began_with(networks: tuple[GPEN, Discriminator]) -> None:
    before = describe_checksums({"decoder": networks[0].decoder, "discriminator": networks[1]})
    with torch.no_grad():
        networks[1].to_logit.bias[0] += 1e-6
    after = describe_checksums({"decoder": networks[0].decoder, "discriminator": networks[1]})
    assert before.split(", ")[0] == after.split(", ")[0] and before.split(", ")[1] != after.split(", ")[1]


@pytest.fixture
def prior_networks(architecture: Architecture) -> tuple[Prior, Discriminator]:
    """The new networks of stage 1."""
    torch.manual_seed(6)
    return Prior(architecture), Discriminator(architecture, 2)


def test_a_prior_goes_on_tensor_for_tensor_with_its_discriminator(
    prior_networks: tuple[Prior, Discriminator], write: Write
) -> None:
    path = write(Prior)
    transfers = start_networks(path, *prior_networks)
    stored, judge = states_beside(path)
    assert all(same(prior_networks[0], stored)) and all(same(prior_networks[1], judge))
    assert describe(transfers) == (
        f"start: prior from {path} ({len(stored)} tensors); discriminator from {path} ({len(judge)} tensors)"
    )


def test_the_prior_inside_a_restoration_network_goes_on_alone(
    prior_networks: tuple[Prior, Discriminator], write: Write
) -> None:
    path, before = write(GPEN), state_of(prior_networks[1])
    transfers = start_networks(path, *prior_networks, take_discriminator=False)
    decoder = {n.removeprefix("decoder."): t for n, t in states_beside(path)[0].items() if n.startswith("decoder.")}
    assert all(same(prior_networks[0], decoder)) and all(same(prior_networks[1], before))
    assert transfers[1] == Transfer("discriminator", "new weights", len(before))


def test_without_a_checkpoint_stage_1_begins_with_new_weights(prior_networks: tuple[Prior, Discriminator]) -> None:
    before = state_of(prior_networks[0]), state_of(prior_networks[1])
    transfers = start_networks(None, *prior_networks)
    assert all(same(prior_networks[0], before[0])) and all(same(prior_networks[1], before[1]))
    assert [(t.part, t.origin) for t in transfers] == [("prior", "new weights"), ("discriminator", "new weights")]


def test_a_prior_that_cannot_go_on_is_refused_with_the_way_out(
    prior_networks: tuple[Prior, Discriminator], write: Write
) -> None:
    with pytest.raises(ValueError, match=r"has narrow 0\.03125 instead of 0\.0625; change the run's architecture"):
        start_networks(write(Prior, narrow=0.03125), *prior_networks)
    with pytest.raises(ValueError, match="holds no discriminator; take a new one: --model"):
        start_networks(write(Prior, with_discriminator=False), *prior_networks)
