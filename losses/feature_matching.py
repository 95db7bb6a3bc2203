"""Distance between the discriminator's features of restored and target images."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import l1_loss

from losses.pixel import at_least_float32


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
