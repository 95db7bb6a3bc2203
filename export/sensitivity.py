"""What each convolution costs in 8 bits: alone, and as the only one that is left in float."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from evaluation.pairs import PairBatch
from export.integer_simulation import Grids, simulate
from export.restoration_quality import Quality, quality
from export.static_network import StaticGPEN


@dataclass(frozen=True)
class LayerSensitivity:
    """Of one convolution; drops are in PSNR against the clean faces."""

    name: str
    """Of the module."""
    drop_alone_db: float
    """Float network minus the network with only this convolution in int8."""
    drop_all_but_db: float
    """Float network minus the network with every convolution but this one in int8."""
    psnr_to_float_alone_db: float
    """Of the images with only this convolution in int8 against the float network's."""
    psnr_to_float_all_but_db: float
    """Of the images with every convolution but this one in int8 against the float network's."""


Measure = Callable[[Grids], Quality]


def measurement(network: StaticGPEN, faces: PairBatch) -> Measure:
    """Gives a function that measures the network with some convolutions in int8; no grids measure it in float."""
    by_float = simulate(network, {}, faces.degraded)

    def measure(grids: Grids) -> Quality:
        return quality(simulate(network, grids, faces.degraded), faces.target, by_float)

    return measure


def layer_sensitivity(measure: Measure, grids: Grids, on_step: Callable[[str], None]) -> tuple[LayerSensitivity, ...]:
    """Measures every convolution by itself.

    Args:
        measure: From `measurement`.
        grids: Of all convolutions.
        on_step: Told in a few words what begins.

    Returns:
        One for each convolution, in the order of `grids`.
    """
    float_psnr = measure({}).psnr
    rows = []
    for number, (name, grid) in enumerate(grids.items(), 1):
        on_step(f"sensitivity of convolution {number} of {len(grids)}")
        alone, all_but = measure({name: grid}), measure(without(grids, {name}))
        rows.append(
            LayerSensitivity(
                name,
                float_psnr - alone.psnr,
                float_psnr - all_but.psnr,
                alone.psnr_to_float,
                all_but.psnr_to_float,
            )
        )
    return tuple(rows)


def without(grids: Grids, names: set[str] | Mapping[str, object]) -> Grids:
    """The grids of all other convolutions."""
    return {name: grid for name, grid in grids.items() if name not in names}
