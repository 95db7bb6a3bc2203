import pytest
import torch
from torch import Tensor

from losses.adversarial import path_length_penalty, path_lengths, r1_penalty


def test_r1_of_a_linear_discriminator_is_the_squared_norm_of_its_weight() -> None:
    weight = torch.randn(3, 4, 4, dtype=torch.float64)
    real = torch.randn(5, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    logits = (real * weight).sum((1, 2, 3))
    assert r1_penalty(logits, real).item() == pytest.approx(weight.square().sum().item(), rel=1e-12)


def test_r1_is_the_mean_over_images_and_not_over_pixels() -> None:
    real = torch.randn(5, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    logits = real.square().sum((1, 2, 3), keepdim=True)[:, :, 0, 0] / 2  # gradient: the image itself
    expected = sum(image.square().sum().item() for image in real) / 5
    assert r1_penalty(logits, real).item() == pytest.approx(expected, rel=1e-12)


def test_r1_contains_what_an_image_does_to_the_logits_of_the_others() -> None:
    real = torch.randn(4, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    logits = real.mean().expand(4, 1)  # every logit looks at the whole batch: 16 pixels, 4 logits
    assert r1_penalty(logits, real).item() == pytest.approx(4 * (4 / 16) ** 2, rel=1e-12)


def test_the_gradient_of_r1_for_a_linear_discriminator_is_twice_its_weight() -> None:
    weight = torch.randn(12, requires_grad=True)
    real = torch.randn(5, 3, 2, 2, requires_grad=True)
    r1_penalty(real.flatten(1) @ weight, real).backward()
    torch.testing.assert_close(weight.grad, 2 * weight.detach())


def test_the_second_derivatives_in_r1_agree_with_finite_differences() -> None:
    real = torch.randn(3, 2, 3, 3, dtype=torch.float64, requires_grad=True)

    def penalty(first: Tensor, second: Tensor) -> Tensor:
        hidden = torch.nn.functional.softplus(torch.nn.functional.conv2d(real, first))
        return r1_penalty(hidden.flatten(1) @ second, real)

    first = torch.randn(4, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    second = torch.randn(16, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(penalty, (first, second))
    assert torch.autograd.gradgradcheck(penalty, (first, second), atol=1e-4)


def test_r1_says_what_to_do_when_the_images_require_no_gradient() -> None:
    with pytest.raises(ValueError, match=r"call real.requires_grad_\(\) before the discriminator"):
        r1_penalty(torch.zeros(1), torch.zeros(1, 3, 4, 4))


def _penalty(image: Tensor, styles: Tensor, mean: Tensor, noise: Tensor, decay: float) -> Tensor:
    """The penalty of a whole batch, from the running mean before it."""
    lengths = path_lengths(image, styles, noise)
    batch_mean = lengths.detach().mean()
    return path_length_penalty(lengths, batch_mean, mean + decay * (batch_mean - mean), decay)


def _linear_images(matrix: Tensor, styles: Tensor) -> Tensor:
    """Each image is the same linear map of its styles; matrix [3·4·2, L·D]."""
    return (styles.flatten(1) @ matrix.T).view(-1, 3, 4, 2)


def _expected_lengths(matrix: Tensor, noise: Tensor, num_layers: int) -> Tensor:
    """Root of the mean over layers of the squared norm of Jᵀy, y = noise/√(HW), with the Jacobian as a matrix."""
    gradients = [matrix.T @ image.flatten() / 8**0.5 for image in noise]
    return torch.stack([(gradient.square().sum() / num_layers).sqrt() for gradient in gradients])


def test_path_lengths_of_a_linear_map_come_from_its_matrix() -> None:
    matrix = torch.randn(24, 10, dtype=torch.float64)
    styles = torch.randn(6, 2, 5, dtype=torch.float64, requires_grad=True)
    noise = torch.randn(6, 3, 4, 2, dtype=torch.float64)
    mean = torch.tensor(1.5, dtype=torch.float64)
    lengths = _expected_lengths(matrix, noise, num_layers=2)
    torch.testing.assert_close(path_lengths(_linear_images(matrix, styles), styles, noise), lengths)
    penalty = _penalty(_linear_images(matrix, styles), styles, mean, noise, decay=0.25)
    running_mean = 0.75 * 1.5 + 0.25 * lengths.mean().item()
    assert penalty.item() == pytest.approx(((lengths - running_mean) ** 2).mean().item())


def test_the_expected_squared_length_is_the_size_of_the_jacobian_per_pixel_and_layer() -> None:
    matrix = torch.randn(24, 10)
    styles = torch.randn(4000, 2, 5, requires_grad=True)
    lengths = path_lengths(_linear_images(matrix, styles), styles, torch.randn(4000, 3, 4, 2))
    expected = matrix.square().sum().item() / 8 / 2
    assert lengths.square().mean().item() == pytest.approx(expected, rel=0.05)


def test_a_batch_of_equal_lengths_at_the_running_mean_costs_nothing() -> None:
    matrix = torch.randn(24, 10, dtype=torch.float64)
    styles = torch.randn(3, 2, 5, dtype=torch.float64, requires_grad=True)
    noise = torch.randn(1, 3, 4, 2, dtype=torch.float64).expand(3, -1, -1, -1)
    mean = _expected_lengths(matrix, noise[:1], num_layers=2)[0]
    penalty = _penalty(_linear_images(matrix, styles), styles, mean, noise, decay=0.01)
    assert penalty.item() == pytest.approx(0, abs=1e-20)


def test_the_second_derivatives_in_the_path_length_agree_with_finite_differences() -> None:
    styles = torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)
    noise = torch.randn(2, 3, 4, 2, dtype=torch.float64)
    mean = torch.tensor(0.3, dtype=torch.float64)

    def penalty(matrix: Tensor) -> Tensor:
        return _penalty(_linear_images(matrix, styles.tanh()), styles, mean, noise, decay=0.2)

    matrix = torch.randn(24, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(penalty, (matrix,))
    assert torch.autograd.gradgradcheck(
        lambda given: path_lengths(_linear_images(given, styles.tanh()), styles, noise), (matrix,), atol=1e-4
    )


@pytest.mark.parametrize("num_parts", [2, 4])
def test_penalty_and_gradient_of_the_parts_of_a_batch_average_to_those_of_the_whole(num_parts: int) -> None:
    matrix = torch.randn(24, 10, dtype=torch.float64, requires_grad=True)
    styles = torch.randn(8, 2, 5, dtype=torch.float64, requires_grad=True)
    noise = torch.randn(8, 3, 4, 2, dtype=torch.float64) * torch.arange(1, 9)[:, None, None, None]  # unequal lengths
    mean = torch.tensor(0.7, dtype=torch.float64)

    def lengths_of(part: slice) -> Tensor:
        own = styles[part]
        return path_lengths(_linear_images(matrix, own), own, noise[part])

    lengths = lengths_of(slice(8))
    # The textbook: the running mean, which contains this batch, is part of the graph.
    textbook = (lengths - (mean + 0.3 * (lengths.mean() - mean))).square().mean()
    (expected,) = torch.autograd.grad(textbook, matrix)
    size = 8 // num_parts
    batch_mean = lengths.detach().mean()
    running_mean = mean + 0.3 * (batch_mean - mean)
    starts = range(0, 8, size)
    parts = [path_length_penalty(lengths_of(slice(i, i + size)), batch_mean, running_mean, 0.3) for i in starts]
    penalty = torch.stack(parts).mean()
    torch.testing.assert_close(penalty, textbook)
    torch.testing.assert_close(torch.autograd.grad(penalty, matrix)[0], expected)


def test_wrong_styles_or_noise_are_refused_in_one_line() -> None:
    image = torch.zeros(2, 3, 4, 4)
    with pytest.raises(ValueError, match=r"styles must be \[N, L, D\] .* got \[2, 512\] with requires_grad True"):
        path_lengths(image, torch.zeros(2, 512, requires_grad=True), image)
    with pytest.raises(ValueError, match="with requires_grad False"):
        path_lengths(image, torch.zeros(2, 4, 512), image)
    with pytest.raises(ValueError, match=r"noise must have the shape of the image, got \[1, 3, 4, 4\]"):
        path_lengths(image, torch.zeros(2, 4, 512, requires_grad=True), image[:1])
