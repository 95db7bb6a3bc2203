"""The non-saturating logistic GAN loss."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import l1_loss, softplus

from losses.pixel import at_least_float32


def generator_logistic_loss(logits_generated: Tensor) -> Tensor:
    """Rewards the generator for images that the discriminator takes for real: mean of log(1 + exp(-logit)).

    Args:
        logits_generated: Discriminator outputs for generated or restored images, any shape.

    Returns:
        Scalar, float32, above 0; log 2 where the discriminator is undecided.

    Source:
        Goodfellow et al. 2014 (arXiv 1406.2661), section 3; used by StyleGAN2 and GPEN.
    """
    return softplus(-at_least_float32(logits_generated)).mean()


def discriminator_logistic_loss(logits_real: Tensor, logits_generated: Tensor) -> Tensor:
    """Rewards the discriminator for positive logits on real and negative logits on generated images.

    Args:
        logits_real: Discriminator outputs for real images, any shape.
        logits_generated: Discriminator outputs for generated or restored images, any shape.

    Returns:
        Scalar, float32, above 0: the sum of the two means; 2 log 2 where the discriminator is undecided.

    Source:
        Goodfellow et al. 2014 (arXiv 1406.2661), equation 1; used by StyleGAN2 and GPEN.
    """
    real = softplus(-at_least_float32(logits_real)).mean()
    generated = softplus(at_least_float32(logits_generated)).mean()
    return real + generated


def feature_matching_loss(features_restored: Sequence[Tensor], features_target: Sequence[Tensor]) -> Tensor:
    """Mean over layers of the mean absolute difference; no gradient reaches the target's features.

    Args:
        features_restored: Features of the restored images, one tensor [N, C, H, W] per layer.
        features_target: Features of the targets, the same layers in the same order.

    Returns:
        Scalar, float32, at least 0.

    Raises:
        ValueError: If there are no layers or the numbers of layers differ.

    Source:
        GPEN (arXiv 2105.06070), section 3; differs in taking L1 means instead of L2 norms, so that the weight does
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
