"""Which convolutions stay in float, so that int8 keeps to a budget; every choice is measured before it is kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from evaluation.pairs import PairBatch
from export.int8.simulation import Grids, Quality, quality, simulate
from export.static.network import StaticGPEN
from system.live_progress import OnStep


@dataclass(frozen=True)
class LayerSensitivity:
    """What one convolution costs; drops are in PSNR against the clean faces."""

    name: str
    drop_alone_db: float
    """Float network minus the network with only this convolution in int8."""
    drop_all_but_db: float
    """Float network minus the network with every convolution but this one in int8."""
    psnr_to_float_alone_db: float
    """PSNR of the images with only this convolution in int8 against the float network's."""
    psnr_to_float_all_but_db: float
    """PSNR of the images with every convolution but this one in int8 against the float network's."""


Measure = Callable[[Grids], Quality]


@dataclass(frozen=True)
class QualityBudget:
    """What int8 may cost."""

    largest_drop_db: float | None = 0.10
    """In PSNR against the clean faces; None: as little as the FLOPs allow."""
    least_psnr_to_float_db: float = 45.0
    """PSNR of the int8 images against the float network's; without meaning if `largest_drop_db` is None."""
    largest_float_flops: float = 0.05
    """Share of the network's FLOPs that may stay in float, linear layers included."""

    def __post_init__(self) -> None:
        if not 0 <= self.largest_float_flops <= 1:
            raise ValueError(
                f"the share of FLOPs in float must be from 0 to 1, got {self.largest_float_flops}; 0.05 leaves 95 % in "
                "int8"
            )
        if self.largest_drop_db is not None and self.largest_drop_db < 0:
            raise ValueError(
                f"the largest drop must be at least 0 dB, got {self.largest_drop_db}; leave it out to spend FLOPs only"
            )

    def is_met(self, measured: Quality, by_float: Quality) -> bool:
        """Whether int8 images are good enough."""
        return (
            self.largest_drop_db is not None
            and by_float.psnr - measured.psnr <= self.largest_drop_db
            and measured.psnr_to_float >= self.least_psnr_to_float_db
        )


NO_BUDGET = QualityBudget(None, largest_float_flops=0.0)
"""Everything in int8, whatever it costs."""


def exclude_layers(
    measure: Measure,
    grids: Grids,
    sensitivity: Sequence[LayerSensitivity],
    flops: Mapping[str, int],
    budget: QualityBudget,
    on_step: OnStep,
) -> dict[str, str]:
    """Chooses convolutions to leave in float, greedily: reason by name.

    Those that lower the error most when they alone leave int8 come first, among those that still fit into the FLOPs.
    Each is kept only if the measured error falls; the choice ends when the budget is met or nothing is left that fits.
    `flops` are those of every layer of the network by name, linear ones included.
    """
    total = sum(flops.values())
    left = budget.largest_float_flops * total - sum(number for name, number in flops.items() if name not in grids)
    by_float, now = measure({}), measure(grids)
    reasons: dict[str, str] = {}
    for row in sorted(sensitivity, key=lambda row: row.psnr_to_float_all_but_db, reverse=True):
        if budget.is_met(now, by_float):
            break
        if flops[row.name] > left:
            continue
        on_step(f"trying without {row.name}")
        then = measure(leave_out(grids, {*reasons, row.name}))
        if then.psnr_to_float > now.psnr_to_float:
            reasons[row.name] = (
                f"in float the images come from {now.psnr_to_float:.2f} to {then.psnr_to_float:.2f} dB of the float "
                f"network's, for {flops[row.name] / total:.2%} of the FLOPs"
            )
            now, left = then, left - flops[row.name]
    return reasons


def measure_on(network: StaticGPEN, faces: PairBatch) -> Measure:
    """Gives a function that measures the network with some convolutions in int8; no grids measure it in float."""
    by_float = simulate(network, {}, faces.degraded)

    def measure(grids: Grids) -> Quality:
        restored = simulate(network, grids, faces.degraded) if grids else by_float
        return quality(restored, faces.target, by_float)

    return measure


def layer_sensitivity(measure: Measure, grids: Grids, on_step: OnStep) -> tuple[LayerSensitivity, ...]:
    """Measures every convolution of `grids`, in their order, by itself."""
    float_psnr = measure({}).psnr
    rows = []
    for number, (name, grid) in enumerate(grids.items()):
        on_step("measuring what each convolution costs in int8", number, len(grids))
        alone, all_but = measure({name: grid}), measure(leave_out(grids, {name}))
        drops = float_psnr - alone.psnr, float_psnr - all_but.psnr
        rows.append(LayerSensitivity(name, *drops, alone.psnr_to_float, all_but.psnr_to_float))
    return tuple(rows)


def leave_out(grids: Grids, names: set[str] | Mapping[str, object]) -> Grids:
    """The grids of all other convolutions."""
    return {name: grid for name, grid in grids.items() if name not in names}
