"""Adam after the correction for lazy regularisation, and updates that skip what is not finite."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import Architecture
from train.stages.prior import PriorOptimization, PriorTraining
from train.stages.restoration import RestorationOptimization, RestorationTraining
from train.updates.adversarial import Regularization
from train.updates.optimization import ClipNorm, PartLoss, Updated, frozen, is_due, lazy_adam, update


def test_a_lazy_interval_scales_rates_and_powers_betas_in_every_group() -> None:
    one, other = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = lazy_adam([([one], 3e-3), ([other], 5e-4)], (0.5, 0.99), 4)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([3e-3 * 4 / 5, 5e-4 * 4 / 5], rel=1e-12)
    for group in optimizer.param_groups:
        assert group["betas"] == pytest.approx((0.5**0.8, 0.99**0.8), rel=1e-12)
        assert group["eps"] == 1e-8 and group["weight_decay"] == 0


def test_interval_0_leaves_rates_and_betas_as_they_are() -> None:
    optimizer = lazy_adam([([nn.Parameter(torch.zeros(1))], 3e-3)], (0.5, 0.99), 0)
    assert optimizer.param_groups[0]["lr"] == 3e-3
    assert optimizer.param_groups[0]["betas"] == (0.5, 0.99)


def members(group: dict[str, Any]) -> set[int]:
    return {id(parameter) for parameter in group["params"]}


def identities(*networks: nn.Module) -> set[int]:
    return {id(parameter) for network in networks for parameter in network.parameters()}


def test_both_optimizers_of_the_prior_have_the_corrected_rates_and_all_parameters(tiny: Architecture) -> None:
    module = PriorTraining(
        tiny, None, PriorOptimization(2e-3, 1e-3, (0.0, 0.99)), Regularization(r1_interval=16, path_length_interval=4)
    )
    generator, discriminator = module.configure_optimizers()
    (group,), (judge,) = generator.param_groups, discriminator.param_groups
    assert group["lr"] == pytest.approx(2e-3 * 4 / 5, rel=1e-12)
    assert group["betas"] == pytest.approx((0.0, 0.99 ** (4 / 5)), rel=1e-12)
    assert judge["lr"] == pytest.approx(1e-3 * 16 / 17, rel=1e-12)
    assert judge["betas"] == pytest.approx((0.0, 0.99 ** (16 / 17)), rel=1e-12)
    assert members(group) == identities(module.generator)
    assert members(judge) == identities(module.discriminator)


def test_encoder_decoder_and_discriminator_have_their_own_corrected_rates(tiny: Architecture) -> None:
    module = RestorationTraining(
        tiny,
        degradation="small",
        optimization=RestorationOptimization(
            encoder_learning_rate=2e-3,
            decoder_learning_rate=2e-4,
            noise_strength_learning_rate=1e-2,
            discriminator_learning_rate=2e-5,
            betas=(0.5, 0.99),
        ),
        regularization=Regularization(r1_interval=16, path_length_interval=4),
    )
    generator, discriminator = module.configure_optimizers()
    encoder, decoder, strengths = generator.param_groups
    (judge,) = discriminator.param_groups
    expected = [(encoder, 2e-3, 4 / 5), (decoder, 2e-4, 4 / 5), (strengths, 1e-2, 4 / 5), (judge, 2e-5, 16 / 17)]
    for group, rate, ratio in expected:
        assert group["lr"] == pytest.approx(rate * ratio, rel=1e-12)
        assert group["betas"] == pytest.approx((0.5**ratio, 0.99**ratio), rel=1e-12)
    assert members(encoder) == identities(module.generator.encoder)
    assert members(decoder) | members(strengths) == identities(module.generator.decoder)
    assert [parameter.numel() for parameter in strengths["params"]] == [1] * 7  # two per resolution, one for 4×4
    assert members(judge) == identities(module.discriminator)


@pytest.mark.parametrize(("rate", "expected"), [(None, 2e-4), (0.0, 0.0), (5e-3, 5e-3)])
def test_noise_strengths_learn_at_the_rate_of_the_decoder_unless_they_have_their_own(
    tiny: Architecture, rate: float | None, expected: float
) -> None:
    optimization = RestorationOptimization(decoder_learning_rate=2e-4, noise_strength_learning_rate=rate)
    module = RestorationTraining(tiny, degradation="small", optimization=optimization)
    _, decoder, strengths = module.configure_optimizers()[0].param_groups
    assert decoder["lr"] == 2e-4 and strengths["lr"] == expected


def test_without_lazy_terms_both_stages_use_the_given_rates(tiny: Architecture) -> None:
    off = Regularization(r1_interval=0, path_length_interval=0)
    prior = PriorTraining(tiny, None, PriorOptimization(2e-3, 1e-3, (0.0, 0.99)), off)
    optimization = RestorationOptimization(4e-3, 3e-3, None, 2e-3, (0.0, 0.99))
    restoration = RestorationTraining(tiny, degradation="small", optimization=optimization, regularization=off)
    groups = [g for m in (prior, restoration) for optimizer in m.configure_optimizers() for g in optimizer.param_groups]
    assert [group["lr"] for group in groups] == [2e-3, 1e-3, 4e-3, 3e-3, 3e-3, 2e-3]
    assert {group["betas"] for group in groups} == {(0.0, 0.99)}


class Line(nn.Module):
    """A parameter that a loss pulls to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor([0.3, -0.7]))

    def loss(self) -> Tensor:
        return (self.values - 1).square().sum()


def step(optimizer: torch.optim.Optimizer, *losses: Tensor) -> Updated:
    """An update by losses alone."""
    return update(optimizer, [PartLoss(loss, {}) for loss in losses])


def plain_adam(line: Line) -> torch.optim.Adam:
    return torch.optim.Adam(line.parameters(), lr=0.1, betas=(0.0, 0.99), eps=1e-8, fused=False, foreach=False)


@pytest.mark.parametrize("first_good_updates", [0, 3])
@pytest.mark.parametrize(
    "broken",
    [
        lambda values: values.sum() * float("nan"),
        lambda values: values.sum() * 1e38 * 1e38,
        lambda values: values.sum() + float("inf"),
        lambda values: values.sum() + float("nan"),
        lambda values: (values - values.detach()).abs().sqrt().sum(),  # finite loss, gradient not
    ],
    ids=["nan", "overflow", "infinite loss", "nan loss", "gradient alone"],
)
def test_a_loss_or_gradient_that_is_not_finite_changes_nothing_and_training_goes_on(
    first_good_updates: int, broken: Any
) -> None:
    line, reference = Line(), Line()
    optimizer, plain = lazy_adam([(line.parameters(), 0.1)], (0.0, 0.99), 0), plain_adam(reference)
    for _ in range(first_good_updates):
        assert step(optimizer, line.loss()).skipped == 0
    before, values = deepcopy(optimizer.state_dict()["state"]), line.values.detach().clone()
    assert step(optimizer, broken(line.values)).skipped == 1
    assert torch.equal(line.values, values)
    after = optimizer.state_dict()["state"]
    for index, state in before.items():
        assert all(torch.equal(after[index][name], tensor) for name, tensor in state.items())
    for _ in range(2):
        assert step(optimizer, line.loss()).skipped == 0
    for _ in range(first_good_updates + 2):  # a reference that never saw the broken loss
        plain.zero_grad()
        reference.loss().backward()
        plain.step()
    torch.testing.assert_close(line.values, reference.values, rtol=1e-6, atol=1e-7)


def test_update_returns_the_norm_of_the_whole_gradient_and_leaves_no_gradient_behind() -> None:
    one, other = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))
    optimizer = lazy_adam([([one], 0.1), ([other], 0.1)], (0.0, 0.99), 0)
    updated = step(optimizer, 2 * one[0] + 3 * one[1] + 6 * other[0])
    assert updated.logged["gradient_norm"].item() == pytest.approx(7.0, rel=1e-6)
    assert updated.skipped.item() == 0
    assert one.grad is None and other.grad is None


def test_the_first_step_of_adam_moves_every_value_by_the_learning_rate_against_its_gradient() -> None:
    value = nn.Parameter(torch.zeros(2))
    step(lazy_adam([([value], 0.1)], (0.0, 0.99), 4), 5 * value[0] - 0.01 * value[1])
    torch.testing.assert_close(value.detach(), torch.tensor([-0.08, 0.08]), rtol=1e-5, atol=0)


def test_gradients_that_were_lying_about_are_not_added_to_an_update() -> None:
    value = nn.Parameter(torch.zeros(1))
    value.grad = torch.tensor([1e6])
    updated = step(lazy_adam([([value], 0.1)], (0.0, 0.99), 0), 3 * value.sum())
    assert updated.logged["gradient_norm"].item() == pytest.approx(3.0)


def test_the_parts_of_a_batch_are_averaged_one_graph_after_the_other() -> None:
    value, asked = nn.Parameter(torch.tensor([1.0, 2.0])), []
    optimizer = lazy_adam([([value], 0.1)], (0.0, 0.99), 0)

    def parts() -> Any:
        for factor in (1.0, 2.0, 6.0):
            asked.append(None if value.grad is None else value.grad.tolist())
            loss = factor * value.sum()
            yield PartLoss(loss, {"term": loss})

    updated = update(optimizer, parts())
    assert asked == [None, [1.0, 1.0], [3.0, 3.0]]  # each backward came before the next part was computed
    assert updated.logged["gradient_norm"].item() == pytest.approx(3 * 2**0.5)
    assert updated.logged["term"].item() == pytest.approx(9.0) and not updated.logged["term"].requires_grad


def test_one_broken_part_skips_the_whole_update() -> None:
    line = Line()
    before = line.values.detach().clone()
    optimizer = lazy_adam([(line.parameters(), 0.1)], (0.0, 0.99), 0)
    assert step(optimizer, line.loss(), line.loss() * float("nan"), line.loss()).skipped == 1
    assert torch.equal(line.values, before)


def test_a_frozen_network_passes_gradients_to_its_input_only_and_is_trainable_again_afterwards() -> None:
    network = nn.Linear(2, 1)
    given = torch.ones(1, 2, requires_grad=True)
    with frozen(network):
        output = network(given)
    output.backward()
    assert torch.equal(given.grad, network.weight.detach())  # type: ignore[arg-type]
    assert network.weight.grad is None and network.bias.grad is None
    assert network.weight.requires_grad and network.bias.requires_grad
    with pytest.raises(RuntimeError, match="inside"), frozen(network):
        raise RuntimeError("inside")
    assert network.weight.requires_grad


def test_a_lazy_term_is_due_at_the_first_iteration_and_every_interval_after_it() -> None:
    assert [i for i in range(33) if is_due(i, 16)] == [0, 16, 32]
    assert all(is_due(i, 1) for i in range(5))
    assert not any(is_due(i, 0) for i in range(5))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Regularization(r1_weight=-5.0), "weights must be 0 or more.*-5"),
        (lambda: Regularization(path_length_weight=float("nan")), "weights must be 0 or more.*nan"),
        (lambda: Regularization(path_length_decay=0.0), "path_length_decay in"),
        (lambda: PriorOptimization(generator_learning_rate=-1e-3), "generator_learning_rate -0.001"),
        (lambda: PriorOptimization(betas=(0.0, 1.0)), "betas must lie in"),
        (lambda: PriorOptimization(style_mixing_probability=1.5), "style_mixing_probability must lie in"),
        (lambda: RestorationOptimization(encoder_learning_rate=float("inf")), "encoder_learning_rate inf"),
        (lambda: RestorationOptimization(noise_strength_learning_rate=-1.0), "noise_strength_learning_rate -1"),
    ],
)
def test_rates_and_weights_that_cannot_train_are_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_a_gradient_longer_than_the_norm_is_shortened_to_it_and_a_shorter_one_is_not() -> None:
    lines = [Line() for _ in range(3)]
    norm = float((2 * (lines[0].values - 1)).norm().item())
    found, seen = [], []
    for line, clip_norm in zip(lines, (None, norm / 4, norm * 4), strict=True):
        optimizer = lazy_adam([(line.parameters(), 0.1)], (0.5, 0.99), 0)
        found.append(update(optimizer, [PartLoss(line.loss(), {})], clip_norm).logged["gradient_norm"].item())
        seen.append(optimizer.state[line.values]["exp_avg"] * 2)  # the gradient, as Adam saw it
    assert found == pytest.approx([norm] * 3)
    torch.testing.assert_close(seen[1], seen[0] / 4, rtol=1e-5, atol=0.0)
    assert torch.equal(seen[2], seen[0])


def test_a_broken_gradient_is_skipped_also_where_norms_are_bounded() -> None:
    line = Line()
    before = line.values.detach().clone()
    optimizer = lazy_adam([(line.parameters(), 0.1)], (0.0, 0.99), 0)
    assert update(optimizer, [PartLoss(line.values.sum() * float("nan"), {})], 1.0).skipped == 1
    assert torch.equal(line.values, before)


@pytest.mark.parametrize(("network", "other"), [("generator", "discriminator"), ("discriminator", "generator")])
def test_every_update_of_a_network_obeys_its_own_norm(
    network: str,
    other: str,
    tiny: Architecture,
    fit: Callable[..., Any],
    make_batch: Callable[..., Any],
    monkeypatch: Any,
) -> None:
    regularization = Regularization(r1_weight=1.0, r1_interval=1, path_length_interval=1)
    optimization = PriorOptimization(clip_norm=ClipNorm(**{network: 1e-3}))
    module = PriorTraining(tiny, None, optimization, regularization)
    names = {id(p): name for name in (network, other) for p in module.get_submodule(name).parameters()}
    norms: dict[str, list[float]] = {network: [], other: []}
    step = torch.optim.Adam.step

    def recording(self: torch.optim.Adam, closure: Any = None) -> Any:
        parameters = self.param_groups[0]["params"]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        norms[names[id(parameters[0])]].append(norm.item())
        return step(self, closure)

    monkeypatch.setattr(torch.optim.Adam, "step", recording)
    fit(module, [make_batch(range(4))])
    assert len(norms[network]) == len(norms[other]) == 2  # the loss and the lazy term
    assert norms[network] == pytest.approx([1e-3] * 2, rel=1e-2) and min(norms[other]) > 2e-3


@pytest.mark.parametrize("norm", [0.0, -1.0, float("inf"), float("nan")])
def test_a_norm_that_bounds_nothing_is_refused(norm: float) -> None:
    with pytest.raises(ValueError, match="clip_norm must be above 0 and finite, or null for none, got generator None"):
        ClipNorm(discriminator=norm)


def test_an_update_waits_where_its_loss_is_low_and_not_elsewhere() -> None:
    line, plain = Line(), Line()
    optimizers = [lazy_adam([(one.parameters(), 0.1)], (0.5, 0.99), 0) for one in (line, plain)]
    loss = line.loss().item()
    for one, optimizer, waits_below in ((line, optimizers[0], loss * 0.9), (plain, optimizers[1], 0.0)):
        updated = update(optimizer, [PartLoss(one.loss(), {})], waits_below=waits_below)
        assert ("waited" in updated.logged) == (waits_below > 0) and updated.skipped == 0
    assert torch.equal(line.values, plain.values)
    before, state = line.values.detach().clone(), deepcopy(optimizers[0].state_dict()["state"])
    updated = update(optimizers[0], [PartLoss(line.loss(), {})], waits_below=loss * 1.1)
    assert updated.logged["waited"] == 1 and updated.skipped == 0
    assert torch.equal(line.values, before)
    assert all(torch.equal(t, state[0][n]) for n, t in optimizers[0].state_dict()["state"][0].items())


def test_an_update_of_a_loss_below_0_is_carried_out() -> None:
    line = Line()
    before = line.values.detach().clone()
    updated = update(lazy_adam([(line.parameters(), 0.1)], (0.5, 0.99), 0), [PartLoss(line.loss() - 100, {})])
    assert updated.skipped == 0 and not torch.equal(line.values, before)


@pytest.mark.parametrize("stage", ["prior", "restoration"])
def test_a_discriminator_that_waits_leaves_the_generator_learning(
    stage: str, tiny: Architecture, fit: Callable[..., Any], make_batch: Callable[..., Any]
) -> None:
    off = Regularization(r1_interval=0, path_length_interval=0)
    if stage == "prior":
        module: Any = PriorTraining(tiny, None, PriorOptimization(discriminator_waits_below=100.0), off)
    else:
        waiting = RestorationOptimization(discriminator_waits_below=100.0)
        module = RestorationTraining(tiny, None, "small", optimization=waiting, regularization=off)
    networks = (module.discriminator, module.generator)
    before = [[p.detach().clone() for p in network.parameters()] for network in networks]
    fit(module, [make_batch(range(4))])
    after = [list(network.parameters()) for network in networks]
    assert all(torch.equal(a, b) for a, b in zip(before[0], after[0], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(before[1], after[1], strict=True))


def test_a_loss_to_wait_at_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="discriminator_waits_below must be 0 or more and finite, got -1"):
        PriorOptimization(discriminator_waits_below=-1.0)
