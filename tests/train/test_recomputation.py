"""Activations that are computed twice change nothing but time and memory."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from models import Architecture
from train.stages.prior import PriorTraining
from train.stages.restoration import RestorationTraining
from train.stages.stage import Computation
from train.updates.adversarial import Regularization

Fit = Callable[..., Any]
MakeBatch = Callable[..., Any]


@pytest.mark.parametrize("stage", [PriorTraining, RestorationTraining])
def test_recomputing_activations_changes_no_bit_of_an_iteration_with_both_lazy_terms(
    tiny: Architecture, fit: Fit, make_batch: MakeBatch, stage: type[PriorTraining | RestorationTraining]
) -> None:
    states, saved_bytes = [], []
    for recompute in (False, True):
        module = stage(
            tiny, regularization=Regularization(3.0, 1, 2.0, 1), computation=Computation(recompute=recompute, seed=5)
        )
        saved = 0

        def count(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal saved
            saved += tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            fit(module, [make_batch(range(4))])
        states.append(module.state_dict())
        saved_bytes.append(saved)
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name
