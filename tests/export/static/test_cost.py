"""FLOPs and parameters."""

import pytest

from export.static.graph import count_cost
from models import Architecture


@pytest.mark.parametrize(
    ("architecture", "gigaflops", "parameters"),
    [
        (Architecture(512, 2, 1.0), 276.2, 71_005_223),
        (Architecture(256, 2, 1.0), 207.2, None),
        (Architecture(256, 1, 0.5), 17.4, 18_879_010),
    ],
)
def test_cost_is_that_of_the_public_network(
    architecture: Architecture, gigaflops: float, parameters: int | None
) -> None:
    cost = count_cost(architecture)
    assert cost.flops / 1e9 == pytest.approx(gigaflops, abs=0.05)
    assert parameters is None or cost.parameters == parameters


@pytest.mark.parametrize("mode", ["concat", "add", "none"])
def test_kinds_of_layers_make_up_the_whole(mode: str) -> None:
    cost = count_cost(Architecture(128, 2, 0.25, mode, 64, 3))  # type: ignore[arg-type]
    assert sum(kind.flops for kind in cost.kinds) == cost.flops
    assert sum(kind.parameters for kind in cost.kinds) == cost.parameters


def test_decoder_convolutions_cost_what_pencil_and_paper_say() -> None:
    architecture = Architecture(64, 1, 0.125, "add", 64, 2)
    channels = {4: 64, 8: 64, 16: 64, 32: 64, 64: 32}
    kinds = {kind.kind: kind for kind in count_cost(architecture).kinds}
    plain = sum(2 * 9 * c * c * r * r for r, c in channels.items())
    upsampling = sum(2 * 9 * channels[r // 2] * channels[r] * (r // 2) ** 2 for r in (8, 16, 32, 64))
    to_rgb = sum(2 * 3 * c * r * r for r, c in channels.items())
    assert kinds["decoder plain layers"].flops == plain
    assert kinds["decoder upsampling layers"].flops == upsampling
    assert kinds["ToRGB convolutions"].flops == to_rgb
    assert kinds["learned constant"].parameters == 64 * 16
