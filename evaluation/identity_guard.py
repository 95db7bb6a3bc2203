"""Whether a face is still the same person's: dlib's distance beside that of pairs of one person and of two people."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from data.ranges import model_to_uint8
from evaluation.metrics.identity import FaceEmbedding

Verdict = Literal["kept", "doubtful", "lost"]
VERDICTS: tuple[Verdict, ...] = ("kept", "doubtful", "lost")
_PERCENT = (0, 1, 2, 5, 10, 25, 50, 75, 90, 95, 98, 99, 100)
_ONE_PERSON = (0.173, 0.232, 0.262, 0.293, 0.328, 0.380, 0.432, 0.485, 0.533, 0.560, 0.597, 0.625, 0.748)
_TWO_PEOPLE = (0.479, 0.599, 0.626, 0.664, 0.696, 0.749, 0.811, 0.875, 0.928, 0.960, 0.994, 1.021, 1.132)
"""Percentiles of dlib's distance, measured at 64 pixels (at 128 they lie within 0.03): one pair of photographs of each
of 1,439 people of lfw_128/train, and all 4,950 pairs of the 100 people of lfw_128/val, who have one photograph each."""
KEPT_UP_TO = _ONE_PERSON[_PERCENT.index(95)]
LOST_FROM = _TWO_PEOPLE[_PERCENT.index(5)]
CALIBRATION = (
    f"identity kept up to a distance of {KEPT_UP_TO} (95 % of pairs of one person), lost from {LOST_FROM} (95 % of "
    "pairs of two people); LFW, 64 pixels"
)
STRENGTHS = (1.0, 0.75, 0.5, 0.25, 0.0)
"""Shares of the restoration that blending back tries."""


@dataclass(frozen=True)
class IdentityStatement:
    """What a distance says about one face."""

    distance: float
    """dlib's, Euclidean."""
    verdict: Verdict
    """Judgement of the distance by `KEPT_UP_TO` and `LOST_FROM`."""
    one_person_share: float
    """Share of pairs of one person that lie at least that far apart, [0, 1]."""
    two_people_share: float
    """Share of pairs of two people that lie at most that far apart, [0, 1]."""


def state(distance: float) -> IdentityStatement:
    """Reads a distance, at least 0, by the measured distributions, linearly between their percentiles."""
    verdict: Verdict = "kept" if distance <= KEPT_UP_TO else "lost" if distance >= LOST_FROM else "doubtful"
    closer = [float(np.interp(distance, quantiles, _PERCENT)) / 100 for quantiles in (_ONE_PERSON, _TWO_PEOPLE)]
    return IdentityStatement(distance, verdict, 1 - closer[0], closer[1])


def count_verdicts(distances: Sequence[float]) -> dict[Verdict, int]:
    """How many faces kept their identity, are doubtful, or lost it."""
    counts = Counter(state(distance).verdict for distance in distances)
    return {verdict: counts[verdict] for verdict in VERDICTS}


@dataclass(frozen=True)
class GuardedFace:
    """What the guard found and did."""

    found: IdentityStatement
    """The full restoration beside the input."""
    strength: float
    """Share of the restoration in what is written, [0, 1]."""
    written: IdentityStatement
    """What is written beside the input."""

    def row(self) -> tuple[object, ...]:
        """Cells under `COLUMNS`."""
        shares = self.found.one_person_share, self.found.two_people_share
        return self.found.distance, self.found.verdict, *shares, self.strength, self.written.distance


COLUMNS = (
    "distance",
    "verdict",
    "one_person_pairs_at_least_as_far",
    "two_people_pairs_at_most_as_far",
    "strength",
    "written_distance",
)


class IdentityGuard:
    """Restores as another does, compares what it restored with its inputs, and marks or blends back what moved away.

    A degraded input says less about a person than a photograph does: a guard sees what restoration adds, not what
    degradation took before.
    """

    def __init__(self, restore: Callable[[Tensor], Tensor], mode: Literal["mark", "blend"]) -> None:
        """Takes what maps float32 [N, 3, R, R] in [-1, 1] to the restored images of the same shape; `mark` changes no
        face, `blend` takes the largest of `STRENGTHS` that keep the identity, else 0. ModuleNotFoundError where dlib or
        its models are not installed."""
        self.faces: list[GuardedFace] = []
        self._restore = restore
        self._strengths = STRENGTHS if mode == "blend" else STRENGTHS[:1]
        self._embedding = FaceEmbedding()

    def __call__(self, degraded: Tensor) -> Tensor:
        """Restores float32 [N, 3, R, R] in [-1, 1]; notes every face whose restoration is finite, in their order."""
        restored = self._restore(degraded).cpu()
        return torch.stack([self._check(*face) for face in zip(degraded.cpu(), restored, strict=True)])

    def _check(self, degraded: Tensor, restored: Tensor) -> Tensor:
        if not torch.isfinite(restored).all():
            return restored  # refused by whoever writes it
        target, statements = model_to_uint8(degraded)[None], []
        for strength in self._strengths:
            blended = restored if strength == 1 else torch.lerp(degraded, restored, strength)
            statements.append(state(self._embedding.distance(model_to_uint8(blended)[None], target).item()))
            if statements[-1].verdict == "kept":
                break
        self.faces.append(GuardedFace(statements[0], strength, statements[-1]))
        return blended
