"""The non-saturating logistic GAN loss."""

from torch import Tensor
from torch.nn.functional import softplus

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
