"""What torch.compile is given to compile computes what the operators with gradients of their own compute."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.iterations import Iterations, Size, Stage
from models import GPEN, Architecture, Discriminator
from train.stages.prior import PriorTraining
from train.stages.restoration import RestorationOptimization, RestorationTraining
from train.stages.stage import Computation


def outputs_and_gradients(network: nn.Module, images: Tensor) -> list[Tensor]:
    """Of the network at images, which get a gradient too."""
    images = images.clone().requires_grad_()
    output = network(images)
    tensors = [output] if isinstance(output, Tensor) else [output.logits, *output.features]
    loss = torch.stack([tensor.square().mean() for tensor in tensors]).sum()
    wanted = [images, *network.parameters()]
    return [*tensors, *(g for g in torch.autograd.grad(loss, wanted, allow_unused=True) if g is not None)]


@pytest.mark.parametrize("noise_mode", ["concat", "add", "none"])
def test_generator_and_discriminator_in_the_form_for_a_compiler_equal_the_eager_ones(
    noise_mode: Any, random_generator: Callable[[Architecture], GPEN], monkeypatch: pytest.MonkeyPatch
) -> None:
    architecture = Architecture(32, 1, 0.0625, noise_mode, 32, 2)
    images = torch.randn(4, 3, 32, 32)
    networks: tuple[nn.Module, ...] = (random_generator(architecture), Discriminator(architecture, 2))
    for network in networks:
        network.to(memory_format=torch.channels_last).requires_grad_()
        eager = outputs_and_gradients(network, images)
        with monkeypatch.context() as patched:
            patched.setattr(torch.compiler, "is_compiling", lambda: True)
            plain = outputs_and_gradients(network, images)
        assert len(eager) == len(plain) > 20
        for one, other in zip(eager, plain, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_no_compiler_is_asked_to_follow_the_rounding_of_int8() -> None:
    with pytest.raises(ValueError, match=r"computation.compile must be false with optimization.quantization"):
        RestorationTraining(
            Architecture(32, 1, 0.0625, style_dim=32, num_mapping_layers=2),
            optimization=RestorationOptimization(quantization="max"),
            computation=Computation(compile=True),
        )


def test_what_is_saved_has_the_same_names_when_networks_are_compiled() -> None:
    architecture = Architecture(32, 1, 0.0625, style_dim=32, num_mapping_layers=2)
    plain, compiled = (PriorTraining(architecture, computation=Computation(compile=is_so)) for is_so in (False, True))
    assert list(plain.state_dict()) == list(compiled.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2])
def test_compiled_iterations_equal_those_that_are_not(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_module = nn.Module.compile
    # Graphs and their gradients as any compiler gets them, without the minutes that making code of them takes.
    monkeypatch.setattr(nn.Module, "compile", lambda network: compile_module(network, backend="aot_eager"))
    size = Size(Architecture(32, 1, 0.0625, style_dim=32, num_mapping_layers=2), 4)
    plain, compiled = (Iterations(stage, size, "32-true", is_compiled=is_so) for is_so in (False, True))
    for iterations in (plain, compiled):
        iterations.run()
        iterations.run(r1=True, path_length=True)
    pairs = zip(plain.module.parameters(), compiled.module.parameters(), strict=True)
    difference = torch.cat([(one - other).detach().abs().flatten() for one, other in pairs])
    # Adam divides a gradient by its size: where it is no larger than its rounding, its sign may change.
    assert (difference > 1e-4).double().mean() < 1e-2
