"""What only a GPU can show; docs/gpu.md. GPEN_GPU_TESTS_ON=cpu tries the tests themselves on a machine without one."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.iterations import Iterations, Size, Stage
from data.degradation.presets import load_preset
from data.degradation.sampling import sample_parameters
from data.degradation.synthesis import degrade
from data.ranges import model_to_uint8
from evaluation.metrics.image_metrics import psnr
from losses.adversarial import path_lengths, r1_penalty
from models import GPEN, Architecture, Discriminator, load_generator
from models.operators.convolution import features_only
from tests.train.conftest import Launch, MakeBatch, Train

pytestmark = pytest.mark.gpu
ROOT = Path(__file__).resolve().parents[2]
TINY = Architecture(32, 1, 0.0625, style_dim=32, num_mapping_layers=2)
STAGES: tuple[Stage, ...] = (1, 2)
TWO = """
from models import Architecture, Discriminator
from train.updates.adversarial import update_discriminator
from train.updates.optimization import lazy_adam

def trained(part):
    torch.manual_seed(0)
    discriminator = Discriminator(Architecture(32, 1, 0.0625), 2).to("DEVICE")
    random = torch.Generator().manual_seed(1)
    real, generated = torch.rand(2, 8, 3, 32, 32, generator=random).to("DEVICE")[:, part].unbind()
    for _ in range(3):
        optimizer = lazy_adam([(discriminator.parameters(), 1e-4)], (0.0, 0.99), 16)
        update_discriminator(discriminator, optimizer, [(real, generated)])
    return torch.cat([p.detach().double().cpu().flatten() for p in discriminator.parameters()])

shared = trained(slice(4 * rank, 4 * rank + 4))
torch.distributed.destroy_process_group()
alone = trained(slice(0, 8))
print(json.dumps([float((shared - alone).abs().max()), float(shared.sum())]))
"""


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The first GPU; without one these tests are skipped."""
    return torch.device(os.environ.get("GPEN_GPU_TESTS_ON", "cuda"))


@pytest.fixture(autouse=True)
def exact_products(device: torch.device) -> None:
    """float32 without TF32, as runs compute unless they are told otherwise."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


@pytest.fixture
def on_device(device: torch.device) -> tuple[str, ...]:
    """Options of a run."""
    accelerator = "gpu" if device.type == "cuda" else "cpu"
    return ("--trainer.accelerator", accelerator, "--trainer.devices", "1")


def networks(device: torch.device) -> tuple[GPEN, Discriminator]:
    """Equal on every device, with noise strengths that let the encoder's features pass."""
    torch.manual_seed(0)
    generator, discriminator = GPEN(TINY), Discriminator(TINY, 4)
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.1)
    for network in (generator, discriminator):
        network.to(device).to(memory_format=torch.channels_last)
    return generator, discriminator


def gradients(device: torch.device) -> dict[str, Tensor]:
    """Of an adversarial loss, R1 and path length, in float64 on the host."""
    generator, discriminator = networks(device)
    random = torch.Generator().manual_seed(2)
    degraded, direction = (torch.randn(4, 3, 32, 32, generator=random).to(device) for _ in range(2))
    real = degraded.clone().requires_grad_()
    with features_only():
        penalty = r1_penalty(discriminator(real).logits, real)
    latent, features = generator.encoder(degraded)
    styles = generator.decoder.mapping(latent)[:, None].expand(-1, TINY.num_styles, -1)
    noises = [feature for feature in features for _ in range(2)][1:]
    with features_only():
        lengths = path_lengths(generator.decoder.synthesis(styles, noises), styles, direction)
    loss = discriminator(generator(degraded)).logits.mean() + penalty + lengths.mean()
    loss.backward()
    named = [(f"generator.{n}", p) for n, p in generator.named_parameters()]
    named += [(f"discriminator.{n}", p) for n, p in discriminator.named_parameters()]
    return {name: p.grad.double().cpu() for name, p in named if p.grad is not None}


def test_gradients_of_all_terms_equal_those_of_the_cpu(device: torch.device) -> None:
    expected, found = gradients(torch.device("cpu")), gradients(device)
    assert found.keys() == expected.keys() and len(found) > 60
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-3 * gradient.norm() + 1e-6, name


def test_degradation_without_noise_equals_that_of_the_cpu(device: torch.device, make_batch: MakeBatch) -> None:
    ranges = load_preset("small")
    ranges = replace(ranges, first=replace(ranges.first, noise_sigma_range=(0.0, 0.0)))
    target = make_batch(range(8)).target / 127.5 - 1
    parameters = [sample_parameters(ranges, 0, index, 32) for index in range(8)]
    expected, found = degrade(target, parameters).degraded, degrade(target.to(device), parameters).degraded
    # A coefficient of JPEG may fall to the other side of a half.
    assert (found.cpu() - expected).abs().mean() < 1e-3


def restored(device: torch.device, is_bf16: bool) -> Tensor:
    """Faces of the shipped restorer, uint8 on the host."""
    network = load_generator(ROOT / "weights" / "gpen_64.safetensors").to(device)
    images = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    degraded = torch.nn.functional.interpolate(images, (64, 64), mode="bilinear").to(device)
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=is_bf16):
        return model_to_uint8(network(degraded)).cpu()


def test_bf16_restores_the_faces_of_float32_and_those_are_the_cpus(device: torch.device) -> None:
    exact, half = restored(device, False), restored(device, True)
    assert psnr(exact, restored(torch.device("cpu"), False)).min() > 60
    assert psnr(half, exact).min() > 35


def test_tf32_is_off_until_a_run_asks_for_it(
    device: torch.device, train: Train, tmp_path: Path, on_device: tuple[str, ...]
) -> None:
    for name, is_allowed in (("without", False), ("with", True)):
        train("prior", tmp_path / name, "--run.tf32", str(is_allowed).lower(), *on_device)
        assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == is_allowed
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0):
        torch.backends.cuda.matmul.allow_tf32 = False
        one, other = torch.randn(2, 512, 512, device=device)
        exact = one.double() @ other.double()
        errors = []
        for is_allowed in (False, True):
            torch.backends.cuda.matmul.allow_tf32 = is_allowed
            errors.append(float(((one @ other).double() - exact).norm() / exact.norm()))
        assert errors[0] < 1e-6 < 1e-5 < errors[1] < 1e-3


@pytest.mark.parametrize("stage", STAGES)
def test_compiled_iterations_equal_those_that_are_not(stage: Stage, device: torch.device) -> None:
    size = Size(TINY, 4)
    plain, compiled = (Iterations(stage, size, "32-true", device, is_compiled) for is_compiled in (False, True))
    for iterations in (plain, compiled):
        iterations.run(r1=True, path_length=True)
        iterations.run()
    pairs = zip(plain.module.parameters(), compiled.module.parameters(), strict=True)
    difference = torch.cat([(one - other).detach().abs().flatten() for one, other in pairs])
    # Adam divides a gradient by its size: where it is no larger than its rounding, its sign may change.
    assert (difference > 1e-4).double().mean() < 1e-2


@contextmanager
def no_waiting(device: torch.device) -> Iterator[None]:
    """Inside, whatever makes the host wait for the GPU is an error."""
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("stage", STAGES)
def test_an_iteration_never_waits_for_the_gpu(stage: Stage, device: torch.device) -> None:
    precision: Any = "bf16-mixed" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "32-true"
    iterations = Iterations(stage, Size(TINY, 4), precision, device)
    iterations.run(r1=True, path_length=True)
    with no_waiting(device):
        iterations.run(r1=True, path_length=True)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("stage", ["prior", "restoration"])
def test_a_deterministic_run_cut_in_two_equals_the_whole_run_bit_for_bit(
    stage: str,
    precision: str,
    device: torch.device,
    train: Train,
    tmp_path: Path,
    on_device: tuple[str, ...],
    read_checkpoint_file: Callable[[Path], dict[str, Any]],
    differences: Callable[[Any, Any], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    options = (*on_device, "--trainer.precision", precision, "--trainer.deterministic", "true")
    try:
        for name, lengths in (("whole", [24]), ("again", [24]), ("cut", [12, 24])):
            for length in lengths:
                train(stage, tmp_path / name, "--run.total_images", length, *options)
    finally:
        torch.use_deterministic_algorithms(False)
    whole, *others = (read_checkpoint_file(tmp_path / name) for name in ("whole", "again", "cut"))
    for other in others:
        for name in ("images_seen", "state_dict", "optimizer_states", "meters"):
            assert differences(whole[name], other[name]) == [], name


def test_two_processes_on_one_card_update_as_one_does(
    device: torch.device, in_two_processes: Callable[[str], list[list[float]]]
) -> None:
    (first, sum_of_first), (second, sum_of_second) = in_two_processes(TWO.replace("DEVICE", device.type))
    assert max(first, second) < 1e-4 and sum_of_first == sum_of_second


def test_two_cards_end_with_the_weights_of_one(
    device: torch.device, launch: Launch, tmp_path: Path, read_checkpoint_file: Callable[[Path], dict[str, Any]]
) -> None:
    if device.type == "cuda" and torch.cuda.device_count() < 2:
        pytest.skip("there is one GPU; NCCL takes two")
    rate = 2e-4
    shared = ("--model.init_args.computation.minibatch_group_size", 2, "--trainer.deterministic", "warn")
    accelerator = "gpu" if device.type == "cuda" else "cpu"
    rates = [f"--model.init_args.optimization.{which}_learning_rate" for which in ("generator", "discriminator")]
    for name, devices in (("one", 1), ("two", 2)):
        options = [*shared, "--trainer.accelerator", accelerator, "--trainer.devices", devices]
        process = launch("prior", tmp_path / name, *options, *(word for option in rates for word in (option, rate)))
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    one, two = (read_checkpoint_file(tmp_path / name)["state_dict"] for name in ("one", "two"))
    difference = torch.cat([(one[name] - two[name]).double().abs().flatten() for name in one])
    assert difference.max() < 2 * rate and (difference > rate / 20).double().mean() < 1e-3
