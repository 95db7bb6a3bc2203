"""Networks of other programs: any wrapper, any prefix, any neighbour; what was taken is said."""

import argparse
import collections
import io
import pickle
import re
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from models import GPEN, Architecture, Discriminator, Prior, load_discriminator, load_generator, load_prior
from models.files.checkpoints import read_checkpoint, read_discriminator
from models.files.pickled_file import read_pickled
from models.files.public_format import (
    public_discriminator_name,
    public_generator_name,
    public_prior_name,
    widen_to_concat,
)

State = dict[str, Tensor]
ARCHITECTURE = Architecture(32, 1, 1 / 16, style_dim=16, num_mapping_layers=2)


def public(network: nn.Module, rename: Callable[[str], str]) -> State:
    """A state dict under the public names."""
    state = network.state_dict()
    return {rename(n): t[None].clone() if n.endswith("convolution.weight") else t for n, t in state.items()}


@pytest.fixture(scope="module")
def gpen() -> GPEN:
    torch.manual_seed(1)
    return GPEN(ARCHITECTURE)


@pytest.fixture(scope="module")
def state(gpen: GPEN) -> State:
    return public(gpen, public_generator_name)


@pytest.fixture(scope="module")
def judge() -> Discriminator:
    torch.manual_seed(2)
    return Discriminator(ARCHITECTURE, None)


def same(network: nn.Module, expected: nn.Module) -> bool:
    pairs = zip(network.state_dict().values(), expected.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    "key", ["g_ema", "params_ema", "params", "state_dict", "generator", "model", "g", "G", "net_g"]
)
def test_a_generator_is_read_from_every_usual_wrapper_which_is_named(
    key: str, gpen: GPEN, state: State, tmp_path: Path
) -> None:
    torch.save({key: state, "epoch": 3}, tmp_path / "a.pth")
    assert same(load_generator(tmp_path / "a.pth"), gpen)
    assert read_checkpoint(tmp_path / "a.pth").notes == (f"taken from {key}",)


def test_of_two_generators_the_averaged_one_is_taken(gpen: GPEN, state: State, tmp_path: Path) -> None:
    other = {name: tensor + 1 for name, tensor in state.items()}
    torch.save({"params": other, "params_ema": state}, tmp_path / "a.pth")
    assert same(load_generator(tmp_path / "a.pth"), gpen)
    assert read_checkpoint(tmp_path / "a.pth").notes == ("taken from params_ema",)
    both = {f"net_g.{n}": t for n, t in other.items()} | {f"net_g_ema.{n}": t for n, t in state.items()}
    torch.save({"state_dict": both}, tmp_path / "b.ckpt")
    assert same(load_generator(tmp_path / "b.ckpt"), gpen)
    left_out = f"{len(other)} tensors of something else left out ({next(iter(both))})"
    assert read_checkpoint(tmp_path / "b.ckpt").notes == ("taken from state_dict.net_g_ema", left_out)


def test_wrappers_in_wrappers_and_names_of_data_parallel_are_read(gpen: GPEN, state: State, tmp_path: Path) -> None:
    torch.save({"model": {"state_dict": {f"module.{n}": t for n, t in state.items()}}}, tmp_path / "a.pth")
    assert same(load_generator(tmp_path / "a.pth"), gpen)
    assert read_checkpoint(tmp_path / "a.pth").notes == ("taken from model.state_dict.module",)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_as_float32(dtype: torch.dtype, state: State, tmp_path: Path) -> None:
    half = {name: tensor.to(dtype) for name, tensor in state.items()}
    torch.save(half, tmp_path / "a.pth")
    loaded = public(load_generator(tmp_path / "a.pth"), public_generator_name)
    assert all(tensor.dtype == torch.float32 and torch.equal(tensor, half[n].float()) for n, tensor in loaded.items())


def test_tensors_of_the_size_of_the_released_network_are_read(tmp_path: Path) -> None:
    weight = torch.arange(512 * 512 * 9, dtype=torch.float16).reshape(1, 512, 512, 3, 3)  # its strides multiply to 2^40
    torch.save({"weight": weight}, tmp_path / "a.pth")
    stored = read_pickled(tmp_path / "a.pth").values["weight"]
    assert stored.shape == (1, 512, 512, 3, 3) and torch.equal(stored.read(), weight)


def test_public_names_in_a_safetensors_file_are_read(gpen: GPEN, state: State, tmp_path: Path) -> None:
    save_file({f"module.{n}": t.contiguous() for n, t in state.items()}, tmp_path / "a.safetensors", {"format": "pt"})
    assert same(load_generator(tmp_path / "a.safetensors"), gpen)


def test_tensors_of_something_else_are_left_out_and_counted(gpen: GPEN, state: State, tmp_path: Path) -> None:
    torch.save({**state, "vgg.conv1.weight": torch.zeros(2), "step": torch.tensor(3)}, tmp_path / "a.pth")
    assert same(load_generator(tmp_path / "a.pth"), gpen)
    expected = ("2 tensors of something else left out (vgg.conv1.weight)",)
    assert read_checkpoint(tmp_path / "a.pth").notes == expected


def test_harmless_objects_beside_the_weights_are_not_made_but_named(gpen: GPEN, state: State, tmp_path: Path) -> None:
    extras = {
        "args": argparse.Namespace(lr=0.002, path=Path("faces")),
        "best": np.float64(25.1),
        "curve": np.arange(4.0),
        "options": types.SimpleNamespace(a=1),
        "counts": collections.Counter("abc"),
        "names": {"a", "b"},
    }
    for protocol in (2, 4):
        torch.save({"g_ema": state, **extras}, tmp_path / "a.pth", pickle_protocol=protocol)
        assert same(load_generator(tmp_path / "a.pth"), gpen)
        _, note = read_checkpoint(tmp_path / "a.pth").notes
        assert note.startswith("not made, only named: ") and "argparse.Namespace" in note and "numpy" in note


# --- discriminators


def test_a_discriminator_of_another_width_or_none_does_not_stop_a_generator(
    gpen: GPEN, state: State, tmp_path: Path
) -> None:
    wide = Discriminator(Architecture(32, 1, 1 / 8))
    torch.save({"g_ema": state, "d": public(wide, public_discriminator_name)}, tmp_path / "a.pth")
    stored = read_checkpoint(tmp_path / "a.pth")
    assert stored.discriminator is not None and stored.discriminator.architecture.narrow == 1 / 8
    assert same(load_generator(tmp_path / "a.pth"), gpen)
    torch.save({"g_ema": state, "d": {}}, tmp_path / "b.pth")
    assert same(load_generator(tmp_path / "b.pth"), gpen)
    with pytest.raises(ValueError, match=r"b\.pth holds no discriminator: its entry d is empty; take a new one"):
        _ = read_checkpoint(tmp_path / "b.pth").discriminator


@pytest.mark.parametrize("key", ["", "d", "params"])
def test_a_discriminator_alone_is_read_as_such_and_named_where_a_generator_is_wanted(
    key: str, judge: Discriminator, tmp_path: Path
) -> None:
    tensors = public(judge, public_discriminator_name)
    torch.save({key: tensors} if key else tensors, tmp_path / "d.pth")
    loaded = load_discriminator(tmp_path / "d.pth")
    assert loaded is not None and same(loaded, judge)
    with pytest.raises(
        ValueError, match=r"d\.pth holds a discriminator alone \(.+\), no generator; name the generator"
    ):
        load_generator(tmp_path / "d.pth")


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("missing", ["ecd0.0.0.weight", "ecd1.0.1.bias", "final_linear.0.weight"])
def test_a_restorer_that_lacks_a_tensor_is_no_prior(missing: str, prefix: str, state: State, tmp_path: Path) -> None:
    rest = {f"{prefix}{name}": tensor for name, tensor in state.items()}
    found = next(name for name in rest if name.removeprefix(prefix).startswith(missing.rpartition(".")[0]))
    torch.save({"params_ema": {name: t for name, t in rest.items() if name != found}}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=rf"{re.escape(found.removeprefix(prefix))} missing"):
        read_checkpoint(tmp_path / "a.pth")


# --- the generator that enlarges


class PublicEnlarger(nn.Module):
    """What public FullGenerator_SR computes, with zeros where it draws noise, in terms of an ordinary GPEN."""

    def __init__(self, small: GPEN, large: GPEN) -> None:
        super().__init__()
        self.small, self.large = small, large

    def forward(self, image: Tensor) -> Tensor:
        latent, features = self.small.encoder(image)
        features = [*features, *(torch.zeros(len(image), *s) for s in self.large.encoder.above)]
        noises = [features[0], *(f for feature in features[1:] for f in (feature, feature))]
        return self.large.decoder(latent, noises)


@torch.no_grad()
def test_a_public_generator_that_enlarges_faces_is_read_with_its_smaller_encoder(tmp_path: Path) -> None:
    torch.manual_seed(3)
    small = GPEN(Architecture(32, 1, 1 / 16, style_dim=16, num_mapping_layers=2))
    large = GPEN(Architecture(128, 1, 1 / 16, style_dim=16, num_mapping_layers=2, encoder_resolution=32))
    large.encoder.load_state_dict(small.encoder.state_dict())
    for name, parameter in large.named_parameters():
        if name.endswith("noise_strength"):
            parameter.fill_(0.3)
    tensors = public(large, public_generator_name)
    assert "ecd3.0.1.weight" in tensors and "ecd4.0.1.weight" not in tensors
    torch.save(tensors, tmp_path / "sr.pth")
    loaded = load_generator(tmp_path / "sr.pth")
    assert loaded.architecture == large.architecture
    faces = torch.rand(2, 3, 128, 128) * 2 - 1
    reduced = faces.reshape(2, 3, 32, 4, 32, 4)[:, :, :, 1:3, :, 1:3].mean(dim=(3, 5))  # bilinear, not antialiased
    torch.testing.assert_close(loaded(faces), PublicEnlarger(small, large)(reduced), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", ["256", "512"])
def test_the_names_and_shapes_of_the_released_files_give_the_released_architectures(
    size: str, recorded: Path, tmp_path: Path
) -> None:
    expected = {"256": Architecture(256, 1, 0.5), "512": Architecture(512, 2, 1.0)}[size]
    with torch.device("meta"):
        names = GPEN(expected).state_dict()
    text = (recorded / f"checkpoint_keys_{size}.json").read_text()
    assert all(f'"{public_generator_name(name)}"' in text for name in names)


@pytest.mark.parametrize(
    ("model", "resolution"),
    [("GPEN-Colorization-1024", 1024), ("GPEN-Inpainting-1024", 1024), ("GPEN-Seg2face-512", 512)],
)
def test_public_models_of_other_tasks_are_gpens_of_their_size(model: str, resolution: int, tmp_path: Path) -> None:
    # Their tensors are those of FullGenerator at this size (channel multiplier 2), here with a 32nd of the channels.
    architecture = Architecture(resolution, 2, 1 / 32)
    torch.manual_seed(5)
    network = GPEN(architecture)
    path = tmp_path / f"{model}.pth"
    torch.save(public(network, public_generator_name), path)
    loaded = load_generator(path)
    assert loaded.architecture == architecture
    expected = network.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())
    assert read_checkpoint(path).card == {"origin": "public GPEN checkpoint"}
    torch.save({name: t for name, t in torch.load(path).items() if not name.startswith("ecd0")}, path)
    with pytest.raises(ValueError, match=model):  # named, not filled in
        load_generator(path)


# --- NVIDIA's pickles


class Persistent:
    """Pickles as NVIDIA's networks do: by a call that would run the source it brings."""

    def __init__(self, name: str, **content: Any) -> None:
        tensors = {n: v for n, v in content.items() if isinstance(v, Tensor)}
        buffers = {n: tensors.pop(n) for n in list(tensors) if n in ("resample_filter", "noise_const", "w_avg")}
        parameters = {n: nn.Parameter(v) for n, v in tensors.items()}
        modules = {n: v for n, v in content.items() if isinstance(v, Persistent)}
        state = {"training": False, "_parameters": parameters, "_buffers": buffers, "_modules": modules, "w_dim": 16}
        self.meta = {
            "type": "class", "version": 6, "module_src": "raise SystemError", "class_name": name, "state": state,
        }  # fmt: skip

    def __reduce__(self) -> tuple[Any, tuple[dict[str, Any]]]:
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (self.meta,)  # type: ignore[attr-defined]


@pytest.fixture
def nvidia_modules() -> Iterator[None]:
    """The modules whose names stand in such a pickle; what they would do is an error."""

    def _reconstruct_persistent_obj(meta: dict[str, Any]) -> None:
        raise SystemError("the source in the file was run")

    module = types.ModuleType("torch_utils.persistence")
    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    module._reconstruct_persistent_obj = _reconstruct_persistent_obj  # type: ignore[attr-defined]
    sys.modules |= {"torch_utils": types.ModuleType("torch_utils"), "torch_utils.persistence": module}
    yield
    del sys.modules["torch_utils"], sys.modules["torch_utils.persistence"]


KERNEL = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64


def affine(channels: int, width: int) -> Persistent:
    return Persistent("FullyConnectedLayer", weight=torch.randn(channels, width), bias=1 + 0.2 * torch.randn(channels))


def nvidia_layer(inputs: int, outputs: int, size: int) -> Persistent:
    return Persistent(
        "SynthesisLayer", weight=torch.randn(outputs, inputs, 3, 3), bias=0.3 * torch.randn(outputs),
        noise_strength=torch.randn([]), noise_const=torch.randn(size, size), resample_filter=KERNEL,
        affine=affine(inputs, 16),
    )  # fmt: skip


def nvidia_generator(resolution: int, channels: int) -> Persistent:
    blocks = {}
    for size in (2**power for power in range(2, resolution.bit_length())):
        rgb = Persistent(
            "ToRGBLayer", weight=torch.randn(3, channels, 1, 1), bias=torch.randn(3), affine=affine(channels, 16)
        )
        layers = {"conv1": nvidia_layer(channels, channels, size), "torgb": rgb, "resample_filter": KERNEL}
        if size == 4:
            layers["const"] = torch.randn(channels, 4, 4)  # type: ignore[assignment]
        else:
            layers["conv0"] = nvidia_layer(channels, channels, size)
        blocks[f"b{size}"] = Persistent("SynthesisBlock", **layers)
    linear = {
        f"fc{i}": Persistent("FullyConnectedLayer", weight=100 * torch.randn(16, 16), bias=100 * torch.randn(16))
        for i in range(2)
    }
    mapping = Persistent("MappingNetwork", w_avg=torch.randn(16), **linear)
    return Persistent("Generator", mapping=mapping, synthesis=Persistent("SynthesisNetwork", **blocks))


def nvidia_discriminator(resolution: int, channels: int) -> Persistent:
    def conv(inputs: int, outputs: int, size: int, **more: Tensor) -> Persistent:
        weight = torch.randn(outputs, inputs, size, size)
        return Persistent("Conv2dLayer", weight=weight, resample_filter=KERNEL, **more)

    def linear(inputs: int, outputs: int) -> Persistent:
        return Persistent("FullyConnectedLayer", weight=torch.randn(outputs, inputs), bias=torch.randn(outputs))

    blocks = {}
    for size in (2**power for power in range(3, resolution.bit_length())):
        layers = {
            "conv0": conv(channels, channels, 3, bias=torch.randn(channels)),
            "conv1": conv(channels, channels, 3, bias=torch.randn(channels)),
            "skip": conv(channels, channels, 1),
        }
        if size == resolution:
            layers["fromrgb"] = conv(3, channels, 1, bias=torch.randn(channels))
        blocks[f"b{size}"] = Persistent("DiscriminatorBlock", **layers)
    end = {
        "conv": conv(channels + 1, channels, 3, bias=torch.randn(channels)),
        "fc": linear(16 * channels, channels),
        "out": linear(channels, 1),
    }
    return Persistent("Discriminator", b4=Persistent("DiscriminatorEpilogue", **end), **blocks)


def values(network: Persistent, place: str) -> Any:
    """A tensor or module of the pickled network by its dotted name."""
    current: Any = network
    for word in place.split("."):
        state = current.meta["state"]
        current = {**state["_parameters"], **state["_buffers"], **state["_modules"]}[word]
    return current


def filtered(x: Tensor, kernel: Tensor, before: int, after: int) -> Tensor:
    kernel = kernel.flip(0, 1).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(F.pad(x, (before, after, before, after)), kernel, groups=x.shape[1])


def nvidia_draws(network: Persistent, latent: Tensor, resolution: int, noises: list[Tensor]) -> Tensor:
    """What stylegan2-ada-pytorch computes, from its description: modulated weights, one sample at a time."""
    w = latent / (latent.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()
    for i in range(2):
        weight, bias = values(network, f"mapping.fc{i}.weight"), values(network, f"mapping.fc{i}.bias")
        w = F.leaky_relu(w @ (weight * 0.01 / 4).T + bias * 0.01, 0.2) * 2**0.5
    images, remaining = [], list(noises)

    def styled(x: Tensor, place: str, style: Tensor, up: bool, noise: Tensor) -> Tensor:
        weight = values(network, f"{place}.weight") * style[:, None, None]
        weight = weight / (weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up:
            x = filtered(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), 4 * KERNEL, 1, 1)
        else:
            x = F.conv2d(x, weight, padding=1)
        x = x + noise * values(network, f"{place}.noise_strength") + values(network, f"{place}.bias")[:, None, None]
        return F.leaky_relu(x, 0.2) * 2**0.5

    def style_of(place: str, one: Tensor) -> Tensor:
        return values(network, f"{place}.affine.weight") @ one / 4 + values(network, f"{place}.affine.bias")

    for index, one in enumerate(w):
        x, image, layer = values(network, "synthesis.b4.const")[None], None, 0
        for size in (2**power for power in range(2, resolution.bit_length())):
            place = f"synthesis.b{size}"
            for name in ("conv0", "conv1") if size > 4 else ("conv1",):
                x = styled(
                    x, f"{place}.{name}", style_of(f"{place}.{name}", one), name == "conv0", remaining[layer][index]
                )
                layer += 1
            weight = values(network, f"{place}.torgb.weight")
            style = style_of(f"{place}.torgb", one) / weight.shape[1] ** 0.5
            rgb = F.conv2d(x, weight * style[:, None, None]) + values(network, f"{place}.torgb.bias")[:, None, None]
            if image is not None:
                spread = torch.zeros(1, 3, size, size)
                spread[:, :, ::2, ::2] = image
                rgb = rgb + filtered(spread, 4 * KERNEL, 2, 1)
            image = rgb
        images.append(image)
    return torch.cat(images)  # type: ignore[arg-type]


def nvidia_file(path: Path, resolution: int = 32, channels: int = 16, **more: Any) -> Persistent:
    averaged = nvidia_generator(resolution, channels)
    content = {
        "training_set_kwargs": {"path": "faces.zip"},
        "G": nvidia_generator(resolution, channels),
        "D": nvidia_discriminator(resolution, channels),
        "G_ema": averaged,
        "augment_pipe": None,
        **more,
    }
    path.write_bytes(pickle.dumps(content))
    return averaged


@torch.no_grad()
def test_nvidias_pickle_is_read_as_a_prior_that_draws_the_same_without_running_anything(
    nvidia_modules: None, tmp_path: Path
) -> None:
    network = nvidia_file(tmp_path / "ffhq.pkl")
    prior = load_prior(tmp_path / "ffhq.pkl")
    assert prior.architecture == Architecture(32, 1, 1 / 32, "add", 16, 2)
    assert read_checkpoint(tmp_path / "ffhq.pkl").notes == ("taken from G_ema",)
    latent, noises = torch.randn(2, 16), [torch.randn(2, *shape) for shape in prior.synthesis.noise_shapes()]
    expected = nvidia_draws(network, latent, 32, noises)
    assert float(expected.std()) > 0.1
    torch.testing.assert_close(prior(latent, noises), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(SystemError, match="the source in the file was run"):
        pickle.loads((tmp_path / "ffhq.pkl").read_bytes())  # the file was one that runs code


@torch.no_grad()
def test_nvidias_prior_is_widened_for_concatenated_noise_and_draws_the_same(
    nvidia_modules: None, tmp_path: Path
) -> None:
    network = nvidia_file(tmp_path / "ffhq.pkl")
    stored = read_checkpoint(tmp_path / "ffhq.pkl")
    wide = Prior(Architecture(32, 1, 1 / 32, "concat", 16, 2))
    wide.load_state_dict(widen_to_concat(stored.generator, stored.architecture))
    latent = torch.randn(2, 16)
    silent = [torch.zeros(2, 1, r, r) for r in (4, 8, 8, 16, 16, 32, 32)]
    noises = [torch.randn(2, *shape) for shape in wide.synthesis.noise_shapes()]
    torch.testing.assert_close(wide(latent, noises), nvidia_draws(network, latent, 32, silent), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_nvidias_discriminator_judges_the_same(nvidia_modules: None, tmp_path: Path) -> None:
    network = nvidia_discriminator(32, 16)
    path = tmp_path / "d.pkl"
    path.write_bytes(pickle.dumps({"D": network, "G_ema": nvidia_generator(32, 16)}))
    judge = load_discriminator(path)
    assert judge is not None and judge.minibatch_group_size == 4
    x = faces = torch.randn(2, 3, 32, 32)

    def conv(x: Tensor, place: str, down: bool, gain: float = 2**0.5) -> Tensor:
        weight = values(network, f"{place}.weight")
        size = weight.shape[-1]
        weight = weight / (weight.shape[1] * size**2) ** 0.5
        if down:
            pad = size // 2
            x = filtered(x, KERNEL, pad + 1, pad + 1)
            x = F.conv2d(x, weight, stride=2)
        else:
            x = F.conv2d(x, weight, padding=size // 2)
        if place.endswith("skip"):
            return x * 0.5**0.5
        return F.leaky_relu(x + values(network, f"{place}.bias")[:, None, None], 0.2) * gain

    x = conv(x, "b32.fromrgb", down=False)
    for size in (32, 16, 8):
        skip = conv(x, f"b{size}.skip", down=True)
        x = skip + conv(conv(x, f"b{size}.conv0", down=False), f"b{size}.conv1", down=True, gain=1.0)
    deviation = (x.var(dim=0, unbiased=False) + 1e-8).sqrt().mean()
    x = conv(torch.cat([x, deviation.expand(2, 1, 4, 4)], dim=1), "b4.conv", down=False)
    weight, bias = values(network, "b4.fc.weight"), values(network, "b4.fc.bias")
    x = F.leaky_relu(x.flatten(1) @ weight.T / weight.shape[1] ** 0.5 + bias, 0.2) * 2**0.5
    logits = x @ values(network, "b4.out.weight").T / 4 + values(network, "b4.out.bias")
    torch.testing.assert_close(judge(faces).logits, logits[:, 0], rtol=1e-4, atol=1e-4)


def test_a_conditional_or_residual_network_of_nvidia_is_refused_by_its_tensors(
    nvidia_modules: None, tmp_path: Path
) -> None:
    network = nvidia_generator(32, 16)
    values(network, "mapping").meta["state"]["_modules"]["embed"] = affine(16, 10)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"G_ema": network}))
    with pytest.raises(ValueError, match=r"a\.pkl: the tensors are not those .+ mapping\.embed\.weight"):
        load_prior(tmp_path / "a.pkl")


def test_code_beside_nvidias_networks_is_refused(nvidia_modules: None, tmp_path: Path) -> None:
    class Intruder:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return io.open, (str(tmp_path / "intruded"), "w")  # type: ignore[return-value]

    nvidia_file(tmp_path / "a.pkl", augment_pipe=Intruder())
    with pytest.raises(ValueError, match=r"a\.pkl holds \w*io\.open, which could run code"):
        load_prior(tmp_path / "a.pkl")
    assert not (tmp_path / "intruded").exists()


def test_rosinalitys_discriminator_beside_its_prior_is_found(judge: Discriminator, tmp_path: Path) -> None:
    prior = Prior(Architecture(32, 1, 1 / 16, "add", 16, 2))
    torch.save(
        {"g_ema": public(prior, public_prior_name), "d": public(judge, public_discriminator_name)}, tmp_path / "a.pt"
    )
    found = read_discriminator(tmp_path / "a.pt")
    assert found is not None and found.read().keys() == judge.state_dict().keys()
