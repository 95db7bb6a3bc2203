"""Learning rates over the images seen: closed forms, every group of both optimizers, and nothing learned at rate 0."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule

from data.dataset import FaceBatch
from models import Architecture
from train.stages.prior import PriorOptimization, PriorTraining
from train.stages.restoration import RestorationOptimization, RestorationTraining
from train.updates.adversarial import Regularization
from train.updates.optimization import RateSchedule

Fit = Callable[..., LightningModule]
MakeBatch = Callable[[Sequence[int]], FaceBatch]


def test_without_options_every_factor_is_1() -> None:
    schedule = RateSchedule()
    assert schedule.is_constant and {schedule.factor(n) for n in (0, 1, 10**9)} == {1.0}


def test_rates_rise_linearly_over_the_warm_up() -> None:
    schedule = RateSchedule(warm_up_images=100)
    assert not schedule.is_constant
    assert [schedule.factor(n) for n in (0, 25, 100, 101)] == [0.0, 0.25, 1.0, 1.0]


@pytest.mark.parametrize(
    ("decay", "quarter", "three_quarters"),
    [("linear", 0.75, 0.25), ("cosine", (2 + math.sqrt(2)) / 4, (2 - math.sqrt(2)) / 4)],
)
def test_rates_fall_from_the_first_to_the_last_image_of_the_range(
    decay: Any, quarter: float, three_quarters: float
) -> None:
    to_zero = RateSchedule(0, decay, (200, 600))
    found = [to_zero.factor(n) for n in (0, 200, 300, 400, 500, 600, 10**9)]
    assert found == pytest.approx([1.0, 1.0, quarter, 0.5, three_quarters, 0.0, 0.0], abs=1e-15)
    to_a_tenth = RateSchedule(0, decay, (200, 600), 0.1)
    assert [to_a_tenth.factor(n) for n in (200, 400, 600, 10**9)] == pytest.approx([1.0, 0.55, 0.1, 0.1])


def test_a_decay_may_begin_within_the_warm_up() -> None:
    assert RateSchedule(100, "linear", (0, 200)).factor(50) == pytest.approx(0.5 * 0.75)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"decay": "linear"}, "need each other, got linear and None; give both or neither"),
        ({"decay_range_images": (0, 5)}, r"need each other, got None and \(0, 5\)"),
        ({"decay": "cosine", "decay_range_images": (5, 5)}, r"got 0, \(5, 5\) and 0"),
        ({"warm_up_images": -1}, "got -1,"),
        ({"last_share": 1.5}, r"last_share in \[0, 1\], got .+ and 1\.5"),
        ({"last_share": float("nan")}, "and nan"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RateSchedule(**options)


SCHEDULE = RateSchedule(warm_up_images=8, decay="linear", decay_range_images=(8, 16), last_share=0.5)
LAZY = Regularization(r1_weight=1.0, r1_interval=16, path_length_interval=4)


def prior(architecture: Architecture, schedule: RateSchedule) -> PriorTraining:
    return PriorTraining(architecture, None, PriorOptimization(2e-3, 1e-3, schedule=schedule), LAZY)


def restoration(architecture: Architecture, schedule: RateSchedule) -> RestorationTraining:
    rates = RestorationOptimization(2e-3, 2e-4, 1e-2, 2e-5, schedule=schedule)
    return RestorationTraining(architecture, None, "small", optimization=rates, regularization=LAZY)


@pytest.mark.parametrize(("num_batches", "factor"), [(1, 0.5), (2, 1.0), (3, 0.75), (4, 0.5)])
@pytest.mark.parametrize(
    ("stage", "rates"), [(prior, [[2e-3], [1e-3]]), (restoration, [[2e-3, 2e-4, 1e-2], [2e-5]])], ids=["prior", "gpen"]
)
def test_both_optimizers_follow_with_the_ratio_of_their_lazy_regulariser_and_the_factor_is_logged(
    stage: Any, rates: list[list[float]], num_batches: int, factor: float, tiny: Architecture
) -> None:
    module = stage(tiny, SCHEDULE)
    optimizers = module.configure_optimizers()
    module.stage._schedule_rates(optimizers, 4 * num_batches)
    ratios = (4 / 5, 16 / 17)
    found = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    for ours, given, ratio in zip(found, rates, ratios, strict=True):
        assert ours == pytest.approx([rate * ratio * factor for rate in given], rel=1e-12)
    assert module.progress.in_force == {"learning_rate/factor": factor}


@pytest.mark.parametrize("stage", [prior, restoration])
def test_the_iteration_that_ends_where_the_rates_are_0_learns_nothing(
    stage: Any, tiny: Architecture, fit: Fit, make_batch: MakeBatch
) -> None:
    schedule = RateSchedule(decay="linear", decay_range_images=(4, 8))
    new, one, two = stage(tiny, schedule), stage(tiny, schedule), stage(tiny, schedule)
    fit(one, [make_batch(range(4))])
    fit(two, [make_batch(range(4)), make_batch(range(4, 8))])
    for network in ("generator", "discriminator"):
        states = [list(m.get_submodule(network).parameters()) for m in (new, one, two)]
        assert not all(torch.equal(a, b) for a, b in zip(states[0], states[1], strict=True))
        assert all(torch.equal(a, b) for a, b in zip(states[1], states[2], strict=True))
