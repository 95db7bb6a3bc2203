import pytest
import torch

from losses.adversarial import feature_matching_loss


def test_every_layer_counts_the_same_whatever_its_size() -> None:
    restored = [torch.full((2, 8, 16, 16), 3.0), torch.full((2, 4, 2, 2), -1.0)]
    target = [torch.ones(2, 8, 16, 16), torch.ones(2, 4, 2, 2)]
    target[1][0] = -1
    assert feature_matching_loss(restored, target).item() == pytest.approx((2 + 1) / 2)


def test_the_gradient_reaches_the_restored_features_only() -> None:
    restored, target = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    feature_matching_loss([restored], [target]).backward()
    assert target.grad is None
    torch.testing.assert_close(restored.grad, (restored - target).detach().sign() / 6)


def test_half_precision_features_are_compared_in_float32() -> None:
    loss = feature_matching_loss([torch.full((4,), 6e4).half()], [torch.full((4,), -6e4).half()])
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(1.2e5, rel=1e-3)


def test_the_gradient_agrees_with_finite_differences() -> None:
    target = [torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)]
    restored = [torch.randn_like(features).requires_grad_() for features in target]
    assert torch.autograd.gradcheck(lambda *features: feature_matching_loss(features, target), restored)


def test_different_numbers_of_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="got 1 restored and 2 target layers"):
        feature_matching_loss([torch.zeros(1)], [torch.zeros(1), torch.zeros(1)])
    with pytest.raises(ValueError, match="got 0 restored and 0 target layers"):
        feature_matching_loss([], [])
