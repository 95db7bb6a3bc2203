"""The non-saturating logistic GAN loss and its penalties that are differentiated twice, R1 and path length."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import l1_loss, softplus

from losses.distances import at_least_float32


def generator_logistic_loss(logits_generated: Tensor) -> Tensor:
    """Rewards the generator for images that the discriminator takes for real: mean of log(1 + exp(-logit)) of logits of
    any shape, float32; log 2 where the discriminator is undecided.

    Source: Goodfellow et al. 2014 (arXiv 1406.2661), section 3; used by StyleGAN2 and GPEN.
    """
    return softplus(-at_least_float32(logits_generated)).mean()


def discriminator_logistic_loss(logits_real: Tensor, logits_generated: Tensor) -> Tensor:
    """Rewards the discriminator for positive logits on real and negative logits on generated images, of any shape: the
    sum of the two means, float32; 2 log 2 where it is undecided.

    Source: Goodfellow et al. 2014 (arXiv 1406.2661), equation 1; used by StyleGAN2 and GPEN.
    """
    real = softplus(-at_least_float32(logits_real)).mean()
    generated = softplus(at_least_float32(logits_generated)).mean()
    return real + generated


def feature_matching_loss(features_restored: Sequence[Tensor], features_target: Sequence[Tensor]) -> Tensor:
    """Mean over layers of the mean absolute difference of features [N, C, H, W]; no gradient reaches the target's.
    ValueError where there are no layers or their numbers differ.

    Source: GPEN (arXiv 2105.06070), section 3; differs in taking L1 means instead of L2 norms, so that the weight does
    not depend on the resolution.
    """
    if not features_restored or len(features_restored) != len(features_target):
        raise ValueError(
            "feature matching needs the same layers of both images, at least one, got "
            f"{len(features_restored)} restored and {len(features_target)} target layers"
        )
    pairs = zip(features_restored, features_target, strict=True)
    distances = [l1_loss(at_least_float32(restored), at_least_float32(target.detach())) for restored, target in pairs]
    return torch.stack(distances).mean()


def r1_penalty(logits_real: Tensor, real: Tensor) -> Tensor:
    """Squared norm of the discriminator's gradient at real images [N, C, H, W], of its outputs for them, [N, ...];
    `requires_grad` has to be set before the discriminator sees them, else ValueError.

    Gives a scalar, float32: the mean over images of the squared gradient norm, WITHOUT the factor γ/2, which is the
    weight's business (times the interval when the penalty is lazy).

    Source: Mescheder et al. 2018 (arXiv 1801.04406), equation 9. As in StyleGAN2, the sum of the logits is
    differentiated: through the minibatch standard deviation an image's gradient contains its influence on the others.
    """
    if not real.requires_grad:
        raise ValueError(
            "real images must require a gradient for R1; call real.requires_grad_() before the discriminator"
        )
    # ∇D(x) at real images, in a graph of its own: equation 9.
    (gradient,) = torch.autograd.grad(logits_real.sum(), real, create_graph=True)
    return at_least_float32(gradient).square().flatten(1).sum(1).mean()


def path_lengths(image: Tensor, styles: Tensor, noise: Tensor) -> Tensor:
    """How far images [N, C, H, W] move when their styles [N, L, D], part of their graph, do, in a random direction,
    standard normal noise of the images' shape: [N] float32, part of the graph. ValueError where shapes do not fit.

    Source: Karras et al. 2020 (arXiv 1912.04958), equation 4. As in the published StyleGAN2, noise is divided by the
    root of the number of pixels and the length is the root mean square over layers.
    """
    if styles.ndim != 3 or not styles.requires_grad:
        raise ValueError(
            f"styles must be [N, L, D] and require a gradient for the path length, got {list(styles.shape)} with "
            f"requires_grad {styles.requires_grad}; pass the tensor the image was drawn from"
        )
    if noise.shape != image.shape:
        raise ValueError(f"noise must have the shape of the image, got {list(noise.shape)} for {list(image.shape)}")
    height, width = image.shape[-2:]
    # Jᵀy = ∇w (G(w)·y), without the Jacobian itself: equation 4.
    projection = (image * noise).sum() / (height * width) ** 0.5
    (gradient,) = torch.autograd.grad(projection, styles, create_graph=True)
    return at_least_float32(gradient).square().sum(2).mean(1).sqrt()  # [N]


def path_length_penalty(lengths: Tensor, batch_mean: Tensor, running_mean: Tensor, decay: float) -> Tensor:
    """Keeps the generator's Jacobian with respect to the styles close to a multiple of an isometry.

    The batch may come in equal parts, in several processes or one after the other: the mean of the parts' penalties and
    of their gradients is the penalty and the gradient of the whole batch.

    Args:
        lengths: Of a part of the batch, [N], from `path_lengths`.
        batch_mean: Mean length of the whole batch, scalar, detached.
        running_mean: Running mean of the batches' means, this batch included, scalar, detached.
        decay: Weight of this batch in the running mean, [0, 1]; StyleGAN2 uses 0.01.

    Source: Karras et al. 2020 (arXiv 1912.04958), equation 4. As in the published StyleGAN2, the penalty's gradient
    also passes through this batch's share of the running mean. That is the second term here: its value is 0, its
    gradient -2·decay·(batch mean - running mean) times the gradient of the batch's mean.
    """
    # (|Jᵀy| - a)² of the part's images, and the gradient that a itself passes on: equation 4.
    part_mean = lengths.mean()
    through_running_mean = -2 * decay * (batch_mean - running_mean) * (part_mean - part_mean.detach())
    return (lengths - running_mean).square().mean() + through_running_mean
