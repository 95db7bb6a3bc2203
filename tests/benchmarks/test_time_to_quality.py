"""How much sooner ours is as good as the textbook: what is measured, and what is said about it."""

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.textbook import TextbookTraining
from benchmarks.time_to_quality import OURS, TWIN, Comparison, Contender, Measurement
from data.dataset import FaceBatch
from losses.identity import IdentityLoss
from models import Architecture, Discriminator
from scripts.benchmark import TimeToQuality, main
from tests.fixtures.networks import random_generator
from train.stages.restoration_losses import RestorationLosses, RestorationLossWeights


def measured(values: dict[float, tuple[float, float]]) -> list[Measurement]:
    """PSNR and identity by minutes."""
    return [
        Measurement(minutes, 0, {"psnr": psnr, "identity": identity}) for minutes, (psnr, identity) in values.items()
    ]


def test_ours_is_compared_with_the_best_that_the_textbook_ever_had() -> None:
    twin = measured({2: (20.0, 0.7), 4: (23.0, 0.5), 8: (22.0, 0.6)})
    ours = measured({0.25: (21.0, 0.65), 0.5: (23.0, 0.55), 1: (24.5, 0.51)})
    comparison = Comparison({"psnr": 22.5, "identity": 0.55}, {TWIN: twin, OURS: ours})
    assert comparison.sentences() == {
        "psnr": "ours reaches the textbook's best PSNR, 23.00 dB after 4.0 minutes, after 0.50: 8.0 times sooner",
        "identity": "ours does not reach the textbook's best identity distance, 0.500 after 4.0 minutes, within 1.00",
    }
    blurred = Comparison({"psnr": 24.0, "identity": 0.4}, {TWIN: twin, OURS: ours})
    assert "(no better than the degraded faces' 24.00)" in blurred.sentences()["psnr"]
    drawing = comparison.draw().decode()
    assert all(drawing.count(f"<!-- {words} -->") == 1 for words in (TWIN, OURS, "degraded"))
    assert "<!-- PSNR [dB] -->" in drawing and "<!-- SSIM -->" not in drawing


def test_a_contender_trains_until_its_time_is_over_by_the_clock_or_by_a_time_for_each_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = itertools.count()
    monkeypatch.setattr("time.process_time", lambda: float(next(clock)))  # every batch takes a second
    steps: list[FaceBatch] = []
    batches = itertools.repeat(FaceBatch(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), [0, 1, 2, 3]))
    contender, told = Contender(steps.append, batches, []), []
    contender.train(3, lambda: told.append(contender.seconds))
    assert (contender.seconds, contender.images_seen, len(steps)) == (3, 12, 3)
    contender.train(5, lambda: told.append(contender.seconds))
    assert (contender.images_seen, told) == (20, [1, 2, 3, 4, 5])
    textbook = Contender(steps.append, batches, [], seconds_per_image=0.25)
    textbook.train(3.5, lambda: None)
    assert (textbook.seconds, textbook.images_seen) == (4.0, 16)  # of whatever time it takes here


def test_the_twins_loss_of_the_generator_has_the_gradient_of_our_released_recipe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    architecture = Architecture(32, 1, 0.03125, style_dim=16, num_mapping_layers=2)
    generator, discriminator = random_generator(architecture), Discriminator(architecture, 2)
    twin = TextbookTraining(generator, discriminator, IdentityLoss())
    found: list[tuple[Tensor, ...]] = []

    def differentiate(adam: torch.optim.Adam, loss: Tensor) -> None:
        parameters = adam.param_groups[0]["params"]
        found.append(torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True))

    monkeypatch.setattr(twin, "_update", differentiate)
    degraded, target = torch.rand(2, 2, 3, 32, 32) * 2 - 1
    twin.step(degraded, target)
    losses = RestorationLosses(RestorationLossWeights(adversarial=1.0, l1=0.0, smooth_l1=1.0, identity=1.0))
    terms = losses(generator(degraded), target, discriminator)
    assert set(terms) == {"adversarial", "smooth_l1", "identity"}
    parameters = list(generator.parameters())
    expected = torch.autograd.grad(losses.total(terms), parameters, allow_unused=True, materialize_grads=True)
    for theirs, ours in zip(found[1], expected, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=2e-5 * max(ours.abs().max().item(), 1e-3))
    real, fake = discriminator(target).logits, discriminator(generator(degraded).detach()).logits
    loss = functional.softplus(-real).mean() + functional.softplus(fake).mean()
    for theirs, ours in zip(found[0], torch.autograd.grad(loss, list(discriminator.parameters())), strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=2e-5 * max(ours.abs().max().item(), 1e-3))


def test_the_comparison_needs_faces_of_both_kinds(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs --faces and --validation_faces"):
        main(faces=tmp_path, quality=TimeToQuality(tmp_path / "quality.svg"))
    with pytest.raises(ValueError, match="--minutes must be above 0, got 0"):
        main(quality=TimeToQuality(tmp_path / "quality.svg", tmp_path, 0.0))
