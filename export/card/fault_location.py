"""Which layer of a network is most likely at fault when a card's images differ.

Only images come back, so every layer has to be asked: could you alone have done this? Two questions are put to it.

*Was it quantized?* With only this layer in int8 the simulation makes an error image; rounding is deterministic, so that
an error from the same cause looks the same. The score is the squared correlation with what was observed.

*Are its constants wrong?* The change of weight and bias that best explains the error on one half of the faces (least
squares by Gauss-Newton steps, conjugate gradients inside) is applied to the other half. The score is the share of the
error's energy there that it explains: a wrong layer is wrong in the same way on every face, others cannot imitate that.

Both scores are shares of the energy of the error image, from 0 to 1.

Source: conjugate gradients on the normal equations, Golub and Van Loan, Matrix Computations, section 11.3 (CGNR).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call, jvp, vjp

from export.static.network import StaticGPEN
from inference.restorers import accepted_deprecations
from system.live_progress import OnStep, ignore_step
from system.wording import counted

SURE_SHARE, SURE_MARGIN = 0.5, 1.2
"""A layer is named with confidence if it explains half of the error or more, and so much more than the next."""
ITERATIONS, NUM_REFINED, REFINED_ITERATIONS, REFINED_STEPS = 2, 4, 8, 3
"""Of conjugate gradients for each layer; the likeliest are asked again with more, linearised anew at each step."""
SHORTEST_STEP = 0.1

Constants = dict[str, Tensor]


@dataclass(frozen=True)
class Suspect:
    """A layer and how much of the error it explains alone."""

    name: str
    cause: str
    """`wrong constants` or `quantized`."""
    share: float
    """Share of the energy of the error, 0 to 1, on faces that were not fitted."""


def locate_fault(
    network: StaticGPEN,
    layers: Sequence[str],
    degraded: Tensor,
    error: Tensor,
    signatures: Mapping[str, Tensor] | None = None,
    on_step: OnStep = ignore_step,
) -> list[Suspect]:
    """Ranks the layers by how much of an error each explains alone: one suspect for every layer and cause, the
    likeliest first.

    The network computes as it should; layers are names of its modules with a weight. Network and card were given the
    degraded faces, [N, 3, R, R] in [-1, 1]; the error is what the card made less what it should have made. Signatures
    are the errors of the network with one layer alone in int8, by its name; both are [N, 3, R, R]. ValueError where
    there are fewer than two faces, or the error is not finite or zero.
    """
    energy = float(error.square().sum())
    if len(degraded) < 2 or not 0 < energy < float("inf"):
        raise ValueError(
            f"locating a fault needs at least two faces with a finite difference, got "
            f"{counted(len(degraded), 'face')} and an energy of {energy:g}"
        )
    suspects = [
        Suspect(name, "quantized", _correlation(signature, error)) for name, signature in (signatures or {}).items()
    ]
    half = len(degraded) // 2

    def ask(name: str, num_iterations: int, num_steps: int) -> Suspect:
        constants = _fitted(network, name, degraded[:half], error[:half], num_iterations, num_steps)
        with torch.no_grad():
            effect = functional_call(network, constants, (degraded[half:],)) - network(degraded[half:])
        return Suspect(name, "wrong constants", _explained(effect, error[half:]))

    asked = []
    for number, name in enumerate(layers):
        on_step("asking every layer", number, len(layers))
        asked.append(ask(name, ITERATIONS, 1))
    asked.sort(key=lambda suspect: -suspect.share)
    for place, suspect in enumerate(asked[:NUM_REFINED]):
        on_step("asking the likeliest layers again, longer", place, min(NUM_REFINED, len(asked)))
        asked[place] = ask(suspect.name, REFINED_ITERATIONS, REFINED_STEPS)
    return sorted(suspects + asked, key=lambda suspect: -suspect.share)


def is_sure(suspects: Sequence[Suspect]) -> bool:
    """Whether the first suspect explains so much, and the next other layer so little, that it may be named."""
    others = [suspect.share for suspect in suspects if suspect.name != suspects[0].name]
    return suspects[0].share >= max(SURE_SHARE, SURE_MARGIN * max(others, default=0.0))


def _fitted(
    network: StaticGPEN, name: str, degraded: Tensor, error: Tensor, num_iterations: int, num_steps: int
) -> Constants:
    """A layer's constants with which the network makes the error as well as it can; the trained ones if none help."""
    parameters = network.get_submodule(name).named_parameters(recurse=False)
    best = {f"{name}.{key}": value.detach() for key, value in parameters}
    with torch.no_grad():
        wanted = network(degraded) + error
    remaining = error
    for _ in range(num_steps):
        change, length = _best_change(network, best, degraded, remaining, num_iterations), 1.0
        while length > SHORTEST_STEP:  # the network is not linear: a step that is too long is halved
            tried = {key: best[key] + length * change[key] for key in best}
            with torch.no_grad():
                left = wanted - functional_call(network, tried, (degraded,))
            if left.square().sum() < remaining.square().sum():
                best, remaining = tried, left
                break
            length /= 2
    return best


def _best_change(
    network: StaticGPEN, start: Constants, degraded: Tensor, error: Tensor, num_iterations: int
) -> Constants:
    """Least squares for constants: the change whose effect, to first order, is the error."""

    def restored(constants: Constants) -> Tensor:
        return functional_call(network, constants, (degraded,))

    transposed = vjp(restored, start)[1]
    change = {key: torch.zeros_like(value) for key, value in start.items()}
    residual = error
    gradient = direction = transposed(residual)[0]
    squared = _dot(gradient, gradient)
    for _ in range(num_iterations):
        if squared == 0:
            break
        with accepted_deprecations():  # PyTorch's forward mode still compiles some rules with TorchScript
            effect = jvp(restored, (start,), (direction,))[1]
        step = squared / float(effect.square().sum())
        change = {key: change[key] + step * direction[key] for key in change}
        residual = residual - step * effect
        gradient = transposed(residual)[0]
        previous, squared = squared, _dot(gradient, gradient)
        direction = {key: gradient[key] + squared / previous * direction[key] for key in gradient}
    return change


def _explained(predicted: Tensor, error: Tensor) -> float:
    """Share of the error's energy that goes away when the prediction is taken out, at least 0."""
    return max(0.0, 1 - float((error - predicted).square().sum() / error.square().sum()))


def _correlation(signature: Tensor, error: Tensor) -> float:
    """Squared cosine between two error images; 0 where they point apart or one is 0."""
    product, energy = float((signature * error).sum()), float(signature.square().sum() * error.square().sum())
    return product**2 / energy if product > 0 and energy > 0 else 0.0


def _dot(left: Constants, right: Constants) -> float:
    return sum(float((left[key] * right[key]).sum()) for key in left)
