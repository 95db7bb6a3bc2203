"""Stage 1: who is trained by what, equal to a hand-written iteration, and the average is what is shown."""

import shutil
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.nn.functional import softplus

import train.updates.adversarial
import train.updates.optimization
from data.dataset import FaceBatch
from data.randomness import draw_crossovers, draw_noises, draw_normal
from data.ranges import uint8_to_model
from inference.drawing import sample
from models import Architecture, Prior, load_prior, read_checkpoint
from models.files.run_folder import write_sealed
from train.reporting.tracking import read_table
from train.stages.prior import PriorOptimization, PriorTraining
from train.stages.stage import Computation
from train.updates.adversarial import Regularization
from train.updates.optimization import MovingAverage

Train = Callable[..., None]
Fit = Callable[..., LightningModule]
MakeBatch = Callable[[Sequence[int]], FaceBatch]
RATES = PriorOptimization(2e-3, 1e-3, (0.0, 0.99), 0.9)
OFF = Regularization(r1_interval=0, path_length_interval=0)


def values(network: torch.nn.Module) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in network.state_dict().values()]


def are_equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_every_parameter_receives_a_gradient_within_one_lazy_period(
    tiny: Architecture, fit: Fit, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = PriorTraining(tiny, regularization=Regularization(r1_interval=2, path_length_interval=2))
    names = {id(p): name for name, p in module.named_parameters() if not name.startswith("ema.")}
    received: set[str] = set()
    step = torch.optim.Adam.step

    def recording(self: torch.optim.Adam, closure: Any = None) -> Any:
        for group in self.param_groups:
            received.update(names[id(p)] for p in group["params"] if p.grad is not None and p.grad.abs().sum() > 0)
        return step(self, closure)

    monkeypatch.setattr(torch.optim.Adam, "step", recording)
    fit(module, [make_batch(range(4)), make_batch(range(4, 8))])
    assert set(names.values()) - received == set()


def test_each_update_changes_its_own_network_only(
    tiny: Architecture, fit: Fit, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = PriorTraining(tiny, regularization=Regularization(r1_interval=1, path_length_interval=1))
    watched = {
        "update_discriminator": (module.discriminator, module.generator),
        "regularize_discriminator": (module.discriminator, module.generator),
        "update": (module.generator, module.discriminator),
        "regularize_generator": (module.generator, module.discriminator),
    }
    called = []

    def watch(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        own, other = watched[name]

        def watching(*arguments: Any) -> Any:
            before_own, before_other = values(own), values(other)
            result = function(*arguments)
            assert not are_equal(values(own), before_own) and are_equal(values(other), before_other)
            assert all(p.grad is None for p in other.parameters())
            called.append(name)
            return result

        return watching

    for name in watched:
        owner = train.updates.optimization if name == "update" else train.updates.adversarial
        monkeypatch.setattr(owner, name, watch(name, getattr(owner, name)))
    fit(module, [make_batch(range(4))])
    assert called == ["update_discriminator", "regularize_discriminator", "update", "regularize_generator"]


def textbook_images(generator: Prior, image_indices: list[int]) -> Tensor:
    """Layer by layer the first latent up to the crossover, then the second."""
    latents = draw_normal((2, 32), 3, "latent", image_indices, "cpu")
    crossovers = draw_crossovers(0.9, 8, 3, image_indices).tolist()
    w = generator.mapping(latents.flatten(0, 1)).unflatten(0, (-1, 2))  # [N, 2, D]
    layers = [[int(layer >= crossover) for layer in range(8)] for crossover in crossovers]
    styles = torch.stack([torch.stack([w[i, which] for which in row]) for i, row in enumerate(layers)])
    noises = draw_noises(generator.synthesis.noise_shapes(), 3, "latent noise", image_indices, "cpu")
    return generator.synthesis(styles, noises)


def test_an_iteration_equals_the_textbook_losses_on_one_batch_of_generated_images(
    tiny: Architecture, fit: Fit, make_batch: MakeBatch
) -> None:
    module = PriorTraining(tiny, None, RATES, OFF, computation=Computation(seed=3))
    generator, discriminator = deepcopy(module.generator), deepcopy(module.discriminator)
    adam = torch.optim.Adam(generator.parameters(), 2e-3, (0.0, 0.99), fused=False)
    judge = torch.optim.Adam(discriminator.parameters(), 1e-3, (0.0, 0.99), fused=False)
    batches = [make_batch(range(start, start + 4)) for start in (0, 4, 8)]
    for batch in batches:
        generated = textbook_images(generator, batch.image_indices)
        real = uint8_to_model(batch.target)
        judge.zero_grad()
        judged = discriminator(generated.detach()).logits
        (softplus(-discriminator(real).logits).mean() + softplus(judged).mean()).backward()
        judge.step()
        adam.zero_grad()
        softplus(-discriminator(generated).logits).mean().backward()
        adam.step()
    trained = fit(PriorTraining(tiny, None, RATES, OFF, computation=Computation(seed=3)), batches)
    # Adam turns the rounding of a gradient near 0 into some thousandth of a step, which is 2e-3 here.
    for name, expected in (("generator", generator), ("discriminator", discriminator)):
        torch.testing.assert_close(getattr(trained, name).state_dict(), expected.state_dict(), rtol=1e-6, atol=1e-5)


def test_the_images_of_an_iteration_do_not_depend_on_how_the_batch_is_divided(tiny: Architecture) -> None:
    module = PriorTraining(tiny)
    with torch.no_grad():
        together = module.draw([5, 2, 9, 11])
        parts = [module.draw(indices) for indices in ([5], [2, 9], [11])]
    torch.testing.assert_close(torch.cat(parts), together, rtol=0, atol=2e-6)


def test_networks_start_from_weights_that_depend_on_the_seed_alone(tiny: Architecture) -> None:
    torch.manual_seed(1)
    one = PriorTraining(tiny, computation=Computation(seed=0))
    torch.manual_seed(2)
    same, other = (
        PriorTraining(tiny, computation=Computation(seed=0)),
        PriorTraining(tiny, computation=Computation(seed=1)),
    )
    assert are_equal(values(one), values(same))
    assert not are_equal(values(one.generator.mapping), values(other.generator.mapping))


def test_the_average_starts_equal_and_follows_the_generator_by_the_closed_form(
    tiny: Architecture, fit: Fit, make_batch: MakeBatch
) -> None:
    average = MovingAverage(half_life_images=8.0, ramp_up=None)
    module = PriorTraining(tiny, regularization=OFF, average=average)
    start = module.ema.synthesis.constant.detach().clone()
    assert torch.equal(start, module.generator.synthesis.constant)
    fit(module, [make_batch(range(4))])
    decay = 0.5 ** (4 / 8)
    expected = decay * start + (1 - decay) * module.generator.synthesis.constant.detach()
    torch.testing.assert_close(module.ema.synthesis.constant, expected, rtol=0, atol=1e-6)
    assert not any(parameter.requires_grad for parameter in module.ema.parameters())


@pytest.fixture(scope="module")
def still_average() -> list[str]:
    """Options under which one iteration does not change the average."""
    return ["--model.init_args.average.half_life_images", "1e12", "--model.init_args.average.ramp_up", "1e12"]


def test_samples_and_the_loaded_prior_show_the_average_and_not_the_trained_weights(
    train: Train, tmp_path: Path, still_average: list[str], read_checkpoint_file: Callable[[Path], dict[str, Any]]
) -> None:
    first = tmp_path / "first"
    options = [*still_average, "--run.validate_every_images", 4]
    train("prior", first, "--run.total_images", 4, *options)
    pictures = {}
    for changed in ("nothing", "ema", "generator"):
        folder = tmp_path / changed
        shutil.copytree(first, folder)
        content = read_checkpoint_file(folder)
        for name, tensor in content["state_dict"].items():
            if name.startswith(f"{changed}."):
                tensor.mul_(1.5)
        path = folder / "checkpoints" / "images_000000000004.ckpt"
        write_sealed(content, path)
        drawn = sample(load_prior(path), 0, range(2))
        train("prior", folder, "--run.total_images", 8, *options)
        pictures[changed] = (drawn, (folder / "samples" / "images_000000000008.png").read_bytes())
    assert torch.equal(pictures["generator"][0], pictures["nothing"][0])
    assert pictures["generator"][1] == pictures["nothing"][1]
    assert not torch.equal(pictures["ema"][0], pictures["nothing"][0])
    assert pictures["ema"][1] != pictures["nothing"][1]


def test_without_inception_fd_lite0_stands_in_and_a_run_keeps_the_measure_it_began_with(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise FileNotFoundError("no weights")

    monkeypatch.setattr("train.stages.validation.load_inception", missing)
    options = ["--model.init_args.fid_num_images", 8]
    train("prior", tmp_path, "--run.total_images", 4, *options)
    said = [line for line in capsys.readouterr().out.splitlines() if "stands in for FID" in line]
    assert said == ["fd_lite0 of at most 256 faces stands in for FID: no weights"]
    monkeypatch.setattr("train.stages.validation.load_inception", lambda: torch.nn.Identity())
    train("prior", tmp_path, "--run.total_images", 8, *options)
    assert "this run began with fd_lite0" in capsys.readouterr().out
    rows = read_table(tmp_path / "validation.csv")
    assert rows and all(set(row) == {"validation/fd_lite0", "validation/kid_lite0"} for row in rows.values())
    assert all(row["validation/fd_lite0"] > 0 for row in rows.values())


def test_a_run_goes_on_from_the_averaged_weights_and_the_discriminator_of_another(
    train: Train,
    tmp_path: Path,
    read_checkpoint_file: Callable[[Path], dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    train("prior", tmp_path / "first", "--run.total_images", 8, "--run.seed", 1)
    stored = read_checkpoint_file(tmp_path / "first")["state_dict"]
    capsys.readouterr()
    module = PriorTraining(_architecture_of(tmp_path / "first"), tmp_path / "first", computation=Computation(seed=2))
    assert {t.part: t.origin for t in module.transfers} == dict.fromkeys(
        ("prior", "discriminator"), str(tmp_path / "first" / "checkpoints" / "images_000000000008.ckpt")
    )
    for name, tensor in module.state_dict().items():
        network, _, rest = name.partition(".")
        if rest:
            source = "discriminator" if network == "discriminator" else "ema"
            assert torch.equal(tensor, stored[f"{source}.{rest}"]), name
    train("prior", tmp_path / "second", "--run.total_images", 4, "--model.init_args.start", tmp_path / "first")
    output = capsys.readouterr().out
    assert "start: prior from" in output and "SHA-256 of the first weights: prior" in output


def _architecture_of(run: Path) -> Architecture:
    return read_checkpoint(run).architecture
