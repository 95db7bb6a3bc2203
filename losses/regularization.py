"""Gradient penalties that are differentiated twice: R1 and path length. Call them, and the forward passes that lead to
them, in float32 outside autocast, on networks that are not compiled.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from losses.precision import at_least_float32


class PathLength(NamedTuple):
    """What `path_length_penalty` returns."""

    penalty: Tensor
    """Scalar, float32, at least 0, part of the graph."""
    mean_path_length: Tensor
    """Scalar: the running mean after this batch, detached."""
    lengths: Tensor
    """[N] lengths of this batch, detached."""


def r1_penalty(logits_real: Tensor, real: Tensor) -> Tensor:
    """Squared norm of the discriminator's gradient at real images.

    Args:
        logits_real: Discriminator outputs for `real`, one row per image, [N, ...].
        real: The real images, [N, C, H, W], with `requires_grad` set before the discriminator saw them.

    Returns:
        Scalar, float32, at least 0: the mean over images of the squared gradient norm, WITHOUT the factor γ/2, which
        is the weight's business (times the interval when the penalty is lazy).

    Raises:
        ValueError: If the images do not require a gradient.

    Source:
        Mescheder et al. 2018 (arXiv 1801.04406), equation 9. As in StyleGAN2, the sum of the logits is differentiated:
        through the minibatch standard deviation an image's gradient contains its influence on the others.
    """
    if not real.requires_grad:
        raise ValueError(
            "real images must require a gradient for R1; call real.requires_grad_() before the discriminator"
        )
    (gradient,) = torch.autograd.grad(logits_real.sum(), real, create_graph=True)
    return at_least_float32(gradient).square().flatten(1).sum(1).mean()


def path_length_penalty(
    image: Tensor, styles: Tensor, mean_path_length: Tensor, noise: Tensor, decay: float
) -> PathLength:
    """Keeps the generator's Jacobian with respect to the styles close to a multiple of an isometry.

    Args:
        image: Generated or restored images, [N, C, H, W].
        styles: The styles they were drawn from, [N, L, D], part of the image's graph.
        mean_path_length: Running mean of the path lengths, scalar; 0 at the start of a run.
        noise: Standard normal noise of the shape of `image`.
        decay: Weight of this batch in the running mean, [0, 1]; StyleGAN2 uses 0.01.

    Returns:
        Penalty (mean squared distance from the running mean after this batch), the new running mean, the lengths.

    Raises:
        ValueError: If the shapes do not fit or the styles do not require a gradient.

    Source:
        Karras et al. 2020 (arXiv 1912.04958), equation 4. As in the published StyleGAN2, noise is divided by the root
        of the number of pixels, the length is the root mean square over layers, and the penalty's gradient also
        passes through this batch's share of the running mean.
    """
    if styles.ndim != 3 or not styles.requires_grad:
        raise ValueError(
            f"styles must be [N, L, D] and require a gradient for the path length, got {list(styles.shape)} with "
            f"requires_grad {styles.requires_grad}; pass the tensor the image was drawn from"
        )
    if noise.shape != image.shape:
        raise ValueError(f"noise must have the shape of the image, got {list(noise.shape)} for {list(image.shape)}")
    height, width = image.shape[-2:]
    projection = (image * noise).sum() / (height * width) ** 0.5
    (gradient,) = torch.autograd.grad(projection, styles, create_graph=True)
    lengths = at_least_float32(gradient).square().sum(2).mean(1).sqrt()  # [N]
    new_mean = mean_path_length + decay * (lengths.mean() - mean_path_length)
    penalty = (lengths - new_mean).square().mean()
    return PathLength(penalty, new_mean.detach(), lengths.detach())
