"""Round trips of every format, and one line about every file that is something else."""

import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models import (
    GPEN,
    Architecture,
    Discriminator,
    Prior,
    build_generator,
    load_discriminator,
    load_generator,
    load_prior,
    read_checkpoint,
    save_release,
)
from models.files.public_format import public_discriminator_name, public_generator_name, public_prior_name
from models.files.release_file import FORMAT, Numbers, lightning_entry
from models.files.run_folder import write_sealed
from models.gpen import noises_from_features
from models.operators.resampling import fir_kernel
from system.machine import ROOT

Tiny = Callable[..., Architecture]
Awaken = Callable[[nn.Module], Any]


@pytest.fixture(scope="session")
def gpen(tiny: Tiny, awaken: Awaken) -> GPEN:
    """The network of most files here."""
    torch.manual_seed(1)
    return awaken(GPEN(tiny())).eval()


@pytest.fixture(scope="session")
def prior(tiny: Tiny, awaken: Awaken) -> Prior:
    """A prior with added noise, as StyleGAN2 has."""
    torch.manual_seed(2)
    return awaken(Prior(tiny("add"))).eval()


@pytest.fixture(scope="session")
def discriminator(tiny: Tiny, awaken: Awaken) -> Discriminator:
    """The discriminator beside them."""
    torch.manual_seed(3)
    return awaken(Discriminator(tiny(), 2))


def assert_same_state(one: nn.Module, other: nn.Module | Mapping[str, Tensor]) -> None:
    expected = other.state_dict() if isinstance(other, nn.Module) else other
    state = one.state_dict()
    assert state.keys() == expected.keys()
    assert [name for name in state if not torch.equal(state[name], expected[name])] == []


def public_state(network: nn.Module, rename: Callable[[str], str]) -> dict[str, Tensor]:
    """A state dict as the public code saves it: its names, its dimensions of size 1, its buffers with FIR kernels."""
    state = {}
    for name, tensor in network.state_dict().items():
        theirs = rename(name)
        modulated = name.endswith("convolution.weight")
        state[theirs] = (tensor[None] if modulated else tensor).clone()
        if modulated and "to_rgb" in theirs and "to_rgb1" not in theirs:
            state[theirs.replace("conv.weight", "upsample.kernel")] = fir_kernel(4.0)[0, 0]
        elif rename is not public_prior_name and theirs.endswith(".1.weight") and "final" not in theirs:
            state[theirs.replace(".1.weight", ".0.kernel")] = fir_kernel()[0, 0]
    return state


def swap_format(path: Path, change: Callable[[dict[str, Tensor], dict[str, str]], None]) -> Path:
    """Rewrites a release file with changed tensors or metadata."""
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
    tensors = load_file(path)
    change(tensors, metadata)
    save_file(tensors, path, metadata)
    return path


def one_line_about(path: Path, load: Callable[[Path], object] = load_generator) -> str:
    with pytest.raises(ValueError) as raised:
        load(path)
    text = str(raised.value)
    assert str(path) in text and "\n" not in text
    return text.replace(str(path), "FILE")


def test_a_float32_release_keeps_every_bit(gpen: GPEN, tmp_path: Path) -> None:
    save_release(tmp_path / "restorer.safetensors", gpen, card={"data": "none", "images seen": "7"}, numbers="float32")
    loaded = load_generator(tmp_path / "restorer.safetensors")
    assert not loaded.training
    assert loaded.architecture == gpen.architecture
    assert_same_state(loaded, gpen)
    stored = read_checkpoint(tmp_path / "restorer.safetensors")
    assert (stored.kind, stored.discriminator, stored.minibatch_group_size) == ("gpen", None, None)
    assert stored.card == {"data": "none", "images seen": "7"}
    assert_same_state(build_generator(stored), gpen)


def test_the_card_of_a_release_has_one_order_in_every_process(gpen: GPEN, tmp_path: Path) -> None:
    """safetensors gives its entries in a random one, so reports that quote it would differ."""
    path = tmp_path / "gpen.safetensors"
    card = {name: name.upper() for name in ("zeta", "data", "images seen", "alpha", "origin")}
    save_release(path, gpen, card=card)
    assert list(read_checkpoint(path).card) == sorted(card)


def test_a_half_precision_release_restores_within_55_db(gpen: GPEN, tmp_path: Path) -> None:
    save_release(tmp_path / "half.safetensors", gpen)
    save_release(tmp_path / "full.safetensors", gpen, numbers="float32")
    assert (tmp_path / "half.safetensors").stat().st_size < 0.65 * (tmp_path / "full.safetensors").stat().st_size
    loaded = load_generator(tmp_path / "half.safetensors")
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    degraded = torch.rand(8, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        difference, expected = loaded(degraded) - gpen(degraded), gpen(degraded)
    decibels = 10 * torch.log10((expected.amax() - expected.amin()).square() / difference.square().mean())
    assert 55 < float(decibels) < 100


def test_a_release_in_8_bits_takes_half_of_half_precision_and_rounds_each_weight_to_its_channels_scale(
    gpen: GPEN, tmp_path: Path
) -> None:
    for numbers in get_args(Numbers):
        save_release(tmp_path / f"{numbers}.safetensors", gpen, numbers=numbers)
    loaded = load_generator(tmp_path / "int8.safetensors")
    for (name, ours), theirs in zip(loaded.state_dict().items(), gpen.state_dict().values(), strict=True):
        largest = theirs.abs().flatten(1).amax(1) if theirs.ndim > 1 else theirs.abs().amax().reshape(1)
        step = largest.reshape(-1, *[1] * (theirs.ndim - 1)) / 127
        assert ((ours - theirs).abs() <= 0.501 * step).all(), name
    packed, plain = (load_file(tmp_path / f"{numbers}.safetensors") for numbers in ("int8", "float16"))
    weights = [name for name, tensor in packed.items() if tensor.dtype == torch.int8]
    assert weights and all(plain[name].ndim > 1 for name in weights)
    assert all(packed[name.removesuffix("weight") + "scale"].shape == plain[name].shape[:1] for name in weights)
    assert sum(packed[name].nbytes for name in weights) * 2 == sum(plain[name].nbytes for name in weights)
    degraded = torch.rand(8, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        difference, expected = loaded(degraded) - gpen(degraded), gpen(degraded)
    decibels = 10 * torch.log10((expected.amax() - expected.amin()).square() / difference.square().mean())
    assert 35 < float(decibels) < 70


def test_a_weight_of_8_bits_whose_scale_does_not_fit_is_named(gpen: GPEN, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_release(path, gpen, numbers="int8")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    for change in (lambda scale: scale[:-1], lambda scale: scale.half(), None):
        tensors = load_file(path)
        name = "generator.encoder.to_latent.scale"
        scale = tensors.pop(name)
        if change is not None:
            tensors[name] = change(scale).contiguous()
        save_file(tensors, tmp_path / "b.safetensors", metadata)
        words = one_line_about(tmp_path / "b.safetensors")
        assert "does not fit the network" in words and "first encoder.to_latent" in words, words


def test_the_prior_of_a_release_brings_its_discriminator(
    prior: Prior, discriminator: Discriminator, tmp_path: Path
) -> None:
    path = tmp_path / "prior.safetensors"
    save_release(path, prior, discriminator, numbers="float32")
    assert_same_state(load_prior(path), prior)
    loaded = load_discriminator(path)
    assert loaded is not None and loaded.minibatch_group_size == 2
    assert_same_state(loaded, discriminator)
    assert one_line_about(path) == (
        "FILE holds a prior, not a restoration network; fine-tune it first (python -m train fit)"
    )


def test_the_prior_of_a_restoration_network_is_its_decoder(gpen: GPEN, tmp_path: Path) -> None:
    save_release(tmp_path / "restorer.safetensors", gpen, numbers="float32")
    assert_same_state(load_prior(tmp_path / "restorer.safetensors"), gpen.decoder)
    assert load_discriminator(tmp_path / "restorer.safetensors") is None


def test_a_lightning_checkpoint_gives_the_moving_average_and_the_discriminator(
    gpen: GPEN, discriminator: Discriminator, tmp_path: Path
) -> None:
    trained = GPEN(gpen.architecture)
    networks = {"ema": gpen, "generator": trained, "discriminator": discriminator}
    content = {
        "state_dict": {f"{part}.{n}": t for part, module in networks.items() for n, t in module.state_dict().items()},
        "optimizer_states": [{"state": {}, "param_groups": []}],
        "epoch": 0,
        "images_seen": 1234,
        FORMAT: lightning_entry("gpen", gpen.architecture, 2),
    }
    torch.save(content, tmp_path / "run.ckpt")
    assert_same_state(load_generator(tmp_path / "run.ckpt"), gpen)
    loaded = load_discriminator(tmp_path / "run.ckpt")
    assert loaded is not None and loaded.minibatch_group_size == 2
    assert_same_state(loaded, discriminator)
    assert read_checkpoint(tmp_path / "run.ckpt").card["images seen"] == "1234"


def test_public_gpen_files_are_read_bare_and_as_training_dict(
    gpen: GPEN, discriminator: Discriminator, tmp_path: Path
) -> None:
    state = public_state(gpen, public_generator_name)
    assert {"generator.convs.0.conv.weight", "ecd1.0.1.weight", "ecd1.0.0.kernel"} < state.keys()
    assert state["generator.convs.0.conv.weight"].shape == (1, 16, 32, 3, 3)
    torch.save(state, tmp_path / "bare.pth")
    judge = public_state(discriminator, public_discriminator_name)
    assert "convs.1.conv2.0.kernel" in judge
    other = {n: torch.zeros_like(t) for n, t in state.items()}
    torch.save({"g": other, "d": judge, "g_ema": state, "g_optim": {}, "d_optim": {}}, tmp_path / "training.pth")
    for name in ("bare.pth", "training.pth"):
        assert_same_state(load_generator(tmp_path / name), gpen)
        assert_same_state(load_prior(tmp_path / name), gpen.decoder)
        assert read_checkpoint(tmp_path / name).card == {"origin": "public GPEN checkpoint"}
    assert load_discriminator(tmp_path / "bare.pth") is None
    loaded = load_discriminator(tmp_path / "training.pth")
    assert loaded is not None and loaded.minibatch_group_size is None
    assert_same_state(loaded, discriminator)


def test_rosinalitys_stylegan2_is_read_as_a_prior_with_added_noise(
    prior: Prior, discriminator: Discriminator, tmp_path: Path
) -> None:
    state = public_state(prior, public_prior_name)
    sizes = [r for r in prior.architecture.resolutions for _ in range(2)][1:]
    state |= {f"noises.noise_{i}": torch.randn(1, 1, size, size) for i, size in enumerate(sizes)}
    judge = public_state(discriminator, public_discriminator_name)
    torch.save({"g_ema": state, "d": judge, "latent_avg": torch.zeros(16)}, tmp_path / "550000.pt")
    loaded = load_prior(tmp_path / "550000.pt")
    assert loaded.architecture == prior.architecture
    assert_same_state(loaded, prior)
    assert read_checkpoint(tmp_path / "550000.pt").card == {"origin": "StyleGAN2 checkpoint"}
    assert_same_state(load_discriminator(tmp_path / "550000.pt"), discriminator)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "architecture",
    [
        Architecture(32, 1, 0.03125, "add", 16, 2),
        Architecture(64, 2, 0.0625, "concat", 8, 3),
        Architecture(128, 4, 0.03125, "concat", 16, 1),
        Architecture(256, 1, 0.0625, "add", 16, 2),
    ],
)
def test_the_architecture_of_a_public_file_is_read_from_its_shapes(architecture: Architecture, tmp_path: Path) -> None:
    torch.save(public_state(GPEN(architecture), public_generator_name), tmp_path / "public.pth")
    assert read_checkpoint(tmp_path / "public.pth").architecture == architecture


def test_files_written_before_pytorch_1_6_are_read(gpen: GPEN, tmp_path: Path) -> None:
    state = public_state(gpen, public_generator_name)
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert_same_state(load_generator(tmp_path / "old.pth"), gpen)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    link = tmp_path / "link.ckpt"
    link.symlink_to("gone.ckpt")
    for path, words in (
        (tmp_path / "nothing.safetensors", "; check the path"),
        (tmp_path, ", which is a folder without a run; name a file"),
        (link, ", a link to gone.ckpt, where nothing is; mend it"),
    ):
        with pytest.raises(FileNotFoundError, match=f"^there is no checkpoint at {path}{words}$"):
            load_generator(path)


def test_a_file_of_the_repository_that_is_looked_for_elsewhere_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = f"weights/prior_64.safetensors in {tmp_path}; commands run in the repository's folder, {ROOT}$"
    with pytest.raises(FileNotFoundError, match=words):
        load_generator("weights/prior_64.safetensors")


def torch_file(content: object) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path)


def bytes_file(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


STRANGERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty": (bytes_file(b""), "FILE is empty; expected a release file of this project"),
    "web page": (bytes_file(b"<!DOCTYPE html><html>"), "FILE is a text file that begins with '<!DOCTYPE html><html'"),
    "letters that are pickle codes": (bytes_file(b"e e\n"), "FILE is a text file that begins with 'e e\\n'"),
    "JSON": (bytes_file(b'{"abc": {"d": 1}}'), 'FILE is a text file that begins with \'{"abc": {"d": 1}}\''),
    "picture": (bytes_file(b"\x89PNG\r\n\x1a\n" + bytes(99)), "FILE is no checkpoint; expected"),
    "pickle": (bytes_file(pickle.dumps({"a": 1})), "FILE is no checkpoint; expected"),
    "few bytes": (bytes_file(b"\x00\x01"), "FILE is no checkpoint; expected"),
    "zip": (bytes_file(b"PK\x03\x04" + bytes(200)), "FILE is truncated, damaged or no checkpoint; expected"),
    "list": (torch_file([1, 2]), "FILE holds a list; expected"),
    "tensor": (torch_file(torch.zeros(2)), "FILE holds a Tensor; expected"),
    "nothing": (torch_file({}), "FILE holds nothing; expected"),
    "numbered tensors": (torch_file({0: torch.zeros(2)}), "FILE holds tensors of another network (0); expected"),
    "another training": (torch_file({"epoch": 3, "model": {}}), "FILE holds epoch, model; expected"),
    "another network": (
        torch_file({"conv.weight": torch.zeros(2)}),
        "FILE holds tensors of another network (conv.weight); expected",
    ),
    "another Lightning run": (
        torch_file({"state_dict": {"w": torch.zeros(2)}, "epoch": 1}),
        "FILE holds state_dict, epoch; expected",
    ),
    "a Lightning run of another size": (
        torch_file({"state_dict": {}, FORMAT: {"kind": "gpen", "architecture": {"resolution": 33}}}),
        "FILE is a damaged Lightning checkpoint (resolution must be a power of two",
    ),
    "half a Lightning run": (
        torch_file({"state_dict": {}, FORMAT: {"kind": "gpen"}}),
        "FILE is a damaged Lightning checkpoint ('architecture')",
    ),
    "another program's safetensors": (
        lambda path: save_file({"w": torch.zeros(2)}, path, {"format": "pt"}),
        "FILE is a safetensors file of another program; expected",
    ),
    "safetensors without metadata": (
        lambda path: save_file({"w": torch.zeros(2)}, path),
        "FILE is a safetensors file of another program; expected",
    ),
    "generator that is no state dict": (torch_file({"g_ema": 3}), "FILE holds g_ema; expected"),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_a_file_of_anything_else_gets_one_line_that_says_what_it_is(name: str, tmp_path: Path) -> None:
    write, expected = STRANGERS[name]
    write(tmp_path / "file.pth")
    for load in (load_generator, load_prior, load_discriminator):
        assert one_line_about(tmp_path / "file.pth", load).startswith(expected)


@pytest.mark.parametrize("share", [0.0005, 0.3, 0.999])
def test_a_truncated_release_is_named(gpen: GPEN, tmp_path: Path, share: float) -> None:
    path = tmp_path / "cut.safetensors"
    save_release(path, gpen)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert one_line_about(path).startswith("FILE is a damaged release file (")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("share", [0.001, 0.3, 0.999])
def test_a_truncated_public_file_is_named(gpen: GPEN, tmp_path: Path, legacy: bool, share: float) -> None:
    path = tmp_path / "cut.pth"
    state = public_state(gpen, public_generator_name)
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    path.write_bytes(content[: max(int(share * len(content)), 64)])
    assert "damaged" in one_line_about(path)


def first(tensors: Mapping[str, Tensor]) -> str:
    return next(name for name in tensors if name.endswith("constant") or name.endswith("input.input"))


def remove(tensors: dict[str, Tensor]) -> None:
    del tensors[first(tensors)]


def add(tensors: dict[str, Tensor]) -> None:
    tensors[f"{first(tensors)}.more"] = torch.zeros(1)


def reshape(tensors: dict[str, Tensor]) -> None:
    tensors[first(tensors)] = torch.zeros(1, 16, 5, 4)


def break_value(tensors: dict[str, Tensor]) -> None:
    tensors[first(tensors)][0, 0, 0, 0] = torch.nan


NAMES = "synthesis.constant", "generator.input.input"
DAMAGES: list[tuple[Callable[[dict[str, Tensor]], None], str, str]] = [
    (remove, "first decoder.{0}, which is absent instead of (1, 16, 4, 4)", "{1} missing, none unexpected"),
    (add, "first decoder.{0}.more, which is (1,) instead of absent", "none missing, {1}.more unexpected"),
    (
        reshape,
        "1 in all, first decoder.{0}, which is (1, 16, 5, 4) instead of (1, 16, 4, 4); take another file",
        "{1} has shape (1, 16, 5, 4), expected (1, 16, 4, 4)",
    ),
    (break_value, "not finite, in decoder.{0}; take", "not finite, in decoder.{0}; take"),
]


@pytest.mark.parametrize(("damage", "in_release", "in_public"), DAMAGES)
def test_a_file_with_other_tensors_is_named_with_the_first_of_them(
    gpen: GPEN, tmp_path: Path, damage: Callable[[dict[str, Tensor]], None], in_release: str, in_public: str
) -> None:
    save_release(tmp_path / "a.safetensors", gpen, numbers="float32")
    swap_format(tmp_path / "a.safetensors", lambda tensors, metadata: damage(tensors))
    assert in_release.format(*NAMES) in one_line_about(tmp_path / "a.safetensors")
    state = public_state(gpen, public_generator_name)
    damage(state)
    torch.save(state, tmp_path / "a.pth")
    assert in_public.format(*NAMES) in one_line_about(tmp_path / "a.pth")


def test_not_a_single_value_may_be_infinite_in_a_discriminator(
    prior: Prior, discriminator: Discriminator, tmp_path: Path
) -> None:
    def break_bias(tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        tensors["discriminator.to_logit.bias"][0] = torch.inf

    path = tmp_path / "prior.safetensors"
    save_release(path, prior, discriminator)
    swap_format(path, break_bias)
    assert "not finite, in to_logit.bias" in one_line_about(path, load_discriminator)
    assert_same_state(load_prior(path), {n: t.half().float() for n, t in prior.state_dict().items()})


def test_values_beyond_half_precision_are_noticed_when_they_are_loaded(gpen: GPEN, tmp_path: Path) -> None:
    large = GPEN(gpen.architecture)
    with torch.no_grad():
        large.encoder.from_rgb.bias[0] = 1e5
    save_release(tmp_path / "large.safetensors", large)
    assert "not finite, in encoder.from_rgb.bias" in one_line_about(tmp_path / "large.safetensors")


def test_tensors_of_no_network_are_refused_in_a_release(gpen: GPEN, tmp_path: Path) -> None:
    save_release(tmp_path / "a.safetensors", gpen)
    swap_format(tmp_path / "a.safetensors", lambda tensors, metadata: tensors.update(extra=torch.zeros(1)))
    expected = "FILE is a damaged release file (it holds tensors of neither generator nor discriminator)"
    assert one_line_about(tmp_path / "a.safetensors") == expected


@pytest.mark.parametrize("entry", ["kind", "architecture", "minibatch_group_size"])
def test_a_release_without_an_entry_of_its_metadata_is_damaged(gpen: GPEN, tmp_path: Path, entry: str) -> None:
    save_release(tmp_path / "a.safetensors", gpen)
    swap_format(tmp_path / "a.safetensors", lambda tensors, metadata: metadata.pop(entry))
    assert one_line_about(tmp_path / "a.safetensors") == f"FILE is a damaged release file ('{entry}')"


@pytest.mark.parametrize("text", ["{", '{"size": 3}', '{"resolution": 33}', '{"resolution": "big"}', "3"])
def test_a_release_with_a_senseless_architecture_is_damaged(gpen: GPEN, tmp_path: Path, text: str) -> None:
    save_release(tmp_path / "a.safetensors", gpen)
    swap_format(tmp_path / "a.safetensors", lambda tensors, metadata: metadata.update(architecture=text))
    assert one_line_about(tmp_path / "a.safetensors").startswith("FILE is a damaged release file (")


@pytest.mark.parametrize(
    ("changes", "tensor"),
    [
        ({"noise_mode": "add"}, "decoder.synthesis.blocks.0.plain.bias, which is (32,) instead of (16,); take another"),
        ({"resolution": 64}, ""),
        ({"num_mapping_layers": 3}, "decoder.mapping.layers.2.bias, which is absent instead of (16,); take another"),
    ],
)
def test_a_release_with_the_architecture_of_another_network_does_not_fit(
    gpen: GPEN, tmp_path: Path, changes: dict[str, Any], tensor: str
) -> None:
    def change(tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        metadata["architecture"] = json.dumps(asdict(gpen.architecture) | changes)

    save_release(tmp_path / "a.safetensors", gpen)
    swap_format(tmp_path / "a.safetensors", change)
    line = one_line_about(tmp_path / "a.safetensors")
    assert line.startswith("FILE does not fit the network: ") and f"first {tensor}" in line


def test_a_checkpoint_of_a_run_that_has_changed_since_it_was_written_is_refused(gpen: GPEN, tmp_path: Path) -> None:
    state = {f"ema.{name}": tensor for name, tensor in gpen.state_dict().items()}
    write_sealed({"state_dict": state, FORMAT: lightning_entry("gpen", gpen.architecture, 4)}, tmp_path / "a.ckpt")
    assert_same_state(load_generator(tmp_path / "a.ckpt"), gpen)
    content = bytearray((tmp_path / "a.ckpt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "a.ckpt").write_bytes(content)
    line = one_line_about(tmp_path / "a.ckpt")
    assert line.startswith("FILE is damaged: its content does not have the checksum")
    assert line.endswith("put a copy back or name another checkpoint")


@pytest.mark.parametrize(
    "kernel", [torch.tensor([1.0, 2.0, 1.0]), torch.eye(4), torch.zeros(4, 4), torch.ones(2, 4, 4)]
)
def test_a_public_network_with_another_fir_kernel_is_refused(gpen: GPEN, tmp_path: Path, kernel: Tensor) -> None:
    state = public_state(gpen, public_generator_name)
    name = "generator.to_rgbs.1.upsample.kernel"
    assert name in state
    torch.save({**state, name: kernel}, tmp_path / "a.pth")
    expected = f"FILE: {name} is not the FIR kernel [1, 3, 3, 1]; such a network is not supported"
    assert one_line_about(tmp_path / "a.pth") == expected


def test_channels_of_no_gpen_are_refused(gpen: GPEN, tmp_path: Path) -> None:
    state = public_state(gpen, public_generator_name)
    state["generator.convs.2.conv.weight"] = torch.zeros(1, 12, 32, 3, 3)
    torch.save(state, tmp_path / "a.pth")
    assert one_line_about(tmp_path / "a.pth").startswith(
        "FILE: channels [16, 16, 12, 16] from 4×4 upwards belong to no GPEN architecture"
    )


def test_a_public_decoder_without_a_layer_is_refused(gpen: GPEN, tmp_path: Path) -> None:
    state = public_state(gpen, public_generator_name)
    del state["generator.convs.4.conv.weight"]
    torch.save(state, tmp_path / "a.pth")
    assert one_line_about(tmp_path / "a.pth").startswith("FILE: a tensor of a StyleGAN2 decoder is missing")


def test_a_release_that_cannot_be_written_leaves_the_old_one(
    gpen: GPEN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "restorer.safetensors"
    save_release(path, gpen)
    before = path.read_bytes()

    def fill_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("system.atomic_file.os.fsync", fill_disk)  # when what was written has to reach the disk
    with pytest.raises(OSError, match="No space left"):
        save_release(path, gpen)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["restorer.safetensors"]


def test_a_restored_face_is_the_same_after_a_round_trip_through_public_names(gpen: GPEN, tmp_path: Path) -> None:
    torch.save(public_state(gpen, public_generator_name), tmp_path / "a.pth")
    degraded = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        latent, features = gpen.encoder(degraded)
        drawn = load_prior(tmp_path / "a.pth")(latent, noises_from_features(features))
        assert torch.equal(load_generator(tmp_path / "a.pth")(degraded), gpen(degraded))
        assert torch.equal(drawn, gpen(degraded))
