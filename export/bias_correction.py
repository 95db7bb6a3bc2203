"""Takes the mean error that rounding leaves in the outputs of a convolution out of its bias."""

from copy import deepcopy
from typing import cast

from torch import Tensor, nn

from export.calibration_ranges import restored
from export.constant_layers import constant
from export.integer_simulation import Grids
from models.convolution_calls import ConvolutionCall
from models.fake_quantization import quantized_convolution


def bias_corrected(network: nn.Module, grids: Grids, faces: Tensor) -> nn.Module:
    """Subtracts from each bias the mean error of its channel; convolutions without bias get one.

    Args:
        network: Stays as it is.
        grids: Steps of the convolutions to correct.
        faces: Degraded faces, uint8 [N, 3, R, R].

    Returns:
        A corrected copy. The error of a convolution is measured on the inputs that the quantized network gives it,
        against what it would make of them in float, so that errors from further up are not corrected twice.

    Source: arXiv 1906.04721 section 4.2, with measured instead of derived means.
    """
    errors: dict[str, Tensor] = {}

    def compare(name: str, call: ConvolutionCall) -> Tensor:
        if name not in grids:
            return call.compute()
        y = quantized_convolution(call, grids[name])
        error = (y - call.compute()).double().mean(dim=(2, 3)).sum(dim=0)
        errors[name] = errors.get(name, 0) + error
        return y

    restored(network, faces, compare)
    corrected = deepcopy(network)
    for name, error in errors.items():
        convolution = cast(nn.Conv2d, corrected.get_submodule(name))
        bias = error.new_zeros(()) if convolution.bias is None else convolution.bias
        convolution.bias = constant(bias - error / len(faces))
    return corrected
