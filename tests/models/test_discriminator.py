"""The discriminator: minibatch deviation, features, the gradient penalty's gradient."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from models import Architecture, Discriminator
from models.discriminator import append_deviation

Tiny = Callable[..., Architecture]
Awaken = Callable[[nn.Module], Discriminator]


@pytest.mark.parametrize("group_size", [1, 2, 4, 8, None])
def test_minibatch_deviation_equals_a_loop_over_neighbours(in_float64: None, group_size: int | None) -> None:
    x = torch.randn(8, 3, 2, 2, dtype=torch.float64)
    out = append_deviation(x, group_size)
    size = group_size or 8
    assert torch.equal(out[:, :3], x)
    for image in range(8):
        start = image // size * size
        deviations = []
        for place in range(12):
            values = [float(x[member].flatten()[place]) for member in range(start, start + size)]
            mean = sum(values) / size
            deviations.append(math.sqrt(sum((v - mean) ** 2 for v in values) / size + 1e-8))
        expected = sum(deviations) / 12
        assert out[image, 3].flatten().tolist() == pytest.approx([expected] * 4, rel=1e-12)


def test_a_batch_smaller_than_a_group_is_one_group() -> None:
    x = torch.randn(3, 2, 4, 4)
    assert torch.equal(append_deviation(x, 4), append_deviation(x, None))


def test_a_batch_that_cannot_be_divided_into_groups_is_refused(tiny: Tiny) -> None:
    message = (
        r"^a batch of 6 images per process cannot be divided into minibatch groups of 4; choose .* multiple of it$"
    )
    with pytest.raises(ValueError, match=message):
        Discriminator(tiny(), 4)(torch.zeros(6, 3, 32, 32))


@pytest.mark.parametrize("group_size", [0, -4])
def test_a_group_without_images_is_refused(tiny: Tiny, group_size: int) -> None:
    message = rf"^minibatch_group_size must be 1 or more, or null for the batch, got {group_size}$"
    with pytest.raises(ValueError, match=message):
        Discriminator(tiny(), group_size)


def test_dividing_a_batch_into_whole_groups_changes_no_logit(tiny: Tiny, awaken: Awaken) -> None:
    discriminator, images = awaken(Discriminator(tiny(), 2)), torch.randn(8, 3, 32, 32)
    with torch.no_grad():
        whole = discriminator(images).logits
        halves = torch.cat([discriminator(half).logits for half in images.split(4)])
    assert float(whole.std()) > 0.01
    torch.testing.assert_close(halves, whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("group_size", "affected"), [(1, [2]), (2, [2, 3]), (4, [0, 1, 2, 3]), (None, [*range(8)])])
def test_an_image_is_judged_with_the_neighbours_of_its_group_alone(
    tiny: Tiny, awaken: Awaken, group_size: int | None, affected: list[int]
) -> None:
    discriminator, images = awaken(Discriminator(tiny(), group_size)), torch.randn(8, 3, 32, 32)
    changed = images.clone()
    changed[2] *= 3
    with torch.no_grad():
        difference = (discriminator(changed).logits - discriminator(images).logits).abs()
    assert [i for i in range(8) if difference[i] > 1e-6] == affected


def test_features_are_the_outputs_of_the_blocks_from_high_to_low_resolution() -> None:
    architecture = Architecture(64, 1, 0.0625, style_dim=16, num_mapping_layers=2)
    discriminator, outputs = Discriminator(architecture), []
    for block in discriminator.blocks:
        block.register_forward_hook(lambda module, inputs, output: outputs.append((output, output.clone())))
    features = discriminator(torch.randn(4, 3, 64, 64)).features
    assert [tuple(f.shape) for f in features] == [(4, architecture.channels(r), r, r) for r in (32, 16, 8, 4)]
    for feature, (output, when_made) in zip(features, outputs, strict=True):
        assert feature is output
        assert torch.equal(feature, when_made)  # no later layer has written into it


@pytest.mark.parametrize("group_size", [None, 2])
def test_batches_judged_in_one_pass_are_judged_as_if_each_were_alone(
    tiny: Tiny, awaken: Awaken, group_size: int | None
) -> None:
    discriminator = awaken(Discriminator(tiny(), group_size))
    first, second = torch.randn(2, 4, 3, 32, 32)
    both = torch.cat([first, 5 * second])
    with torch.no_grad():
        together, mixed = discriminator(both, num_batches=2).logits, discriminator(both).logits
        apart = torch.cat([discriminator(one).logits for one in both.chunk(2)])
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-6)
    assert torch.allclose(mixed, apart, atol=1e-4) == (group_size is not None)


@pytest.mark.parametrize("group_size", [1, 2])
def test_gradient_of_the_gradient_penalty_equals_the_numerical_derivative(
    tiny: Tiny, awaken: Awaken, in_float64: None, group_size: int
) -> None:
    discriminator = awaken(Discriminator(tiny(), group_size)).double()
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64) * 2 - 1

    def penalty() -> Tensor:
        real = images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(discriminator(real).logits.sum(), real, create_graph=True)
        # Times 1000, since the penalty of a new network is small and its differences are to be far above rounding.
        return 1000 * gradient.square().sum(dim=(1, 2, 3)).mean()

    parameters = list(discriminator.parameters())
    gradients = torch.autograd.grad(penalty(), parameters, allow_unused=True, materialize_grads=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        direction, step = torch.randn_like(parameter), 1e-7
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(direction, alpha=sign * step)
            values.append(float(penalty().detach()))
            with torch.no_grad():
                parameter.sub_(direction, alpha=sign * step)
        expected = (values[0] - values[1]) / (2 * step)
        assert float((gradient * direction).sum()) == pytest.approx(expected, rel=1e-5, abs=1e-7)
    # The network is piecewise linear: biases only move the borders of the pieces, where there is no derivative.
    weights = [g for p, g in zip(parameters, gradients, strict=True) if p.ndim > 1]
    assert all(float(gradient.abs().max()) > 0.01 for gradient in weights)


def test_every_parameter_gets_a_gradient(tiny: Tiny, awaken: Awaken) -> None:
    discriminator = awaken(Discriminator(tiny()))
    logits = discriminator(torch.randn(4, 3, 32, 32)).logits
    torch.nn.functional.softplus(-logits).mean().backward()
    for name, parameter in discriminator.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert float(parameter.grad.abs().max()) > 0, name


def test_logits_are_float32_under_autocast_and_close_to_those_without(tiny: Tiny, awaken: Awaken) -> None:
    discriminator, images = awaken(Discriminator(tiny())), torch.rand(4, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        expected = discriminator(images).logits
        with torch.autocast("cpu", torch.bfloat16):
            logits, features = discriminator(images)
    assert logits.dtype == torch.float32 and features[0].dtype == torch.bfloat16
    assert float((logits - expected).abs().max()) < 0.05 * float(expected.abs().max())


def test_shapes_can_be_computed_without_memory(tiny: Tiny) -> None:
    with torch.device("meta"):
        logits, features = Discriminator(tiny())(torch.empty(4, 3, 32, 32))
    assert tuple(logits.shape) == (4,) and [f.shape[-1] for f in features] == [16, 8, 4]
