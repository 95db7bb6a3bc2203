"""NIQE: its fits in closed form, the whole in a slow reference, what it ranks, and the files it takes."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat
from scipy.ndimage import correlate, gaussian_filter
from scipy.special import gamma, ndtri
from torch import Tensor

from evaluation.metrics.choice import choose_metrics
from evaluation.metrics.niqe import NaturalModel, fit_asymmetric_gaussian, niqe, read_natural_model

Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def photograph() -> Floats:
    """Matplotlib's sample picture, [288, 200, 3] and a border that is cut off."""
    with Image.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg") as image:
        return np.array(image.convert("RGB"), dtype=np.float64)[100:390, 150:350]


def as_images(pixels: Floats) -> Tensor:
    return torch.from_numpy(pixels.clip(0, 255).round().astype(np.uint8)).permute(2, 0, 1)[None]


def model_around(shift: float) -> NaturalModel:
    random = np.random.default_rng(0)
    factors = random.standard_normal((36, 36)) / 6
    return NaturalModel(torch.full((36,), shift).double(), torch.from_numpy(factors @ factors.T + np.eye(36)), "")


def slow_fit(samples: Floats) -> tuple[float, float, float]:
    """Every shape of the grid is tried."""
    left, right = (np.sqrt((side**2).mean()) for side in (samples[samples < 0], samples[samples > 0]))
    ratio = left / right
    wanted = np.abs(samples).mean() ** 2 / (samples**2).mean() * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    grid = np.arange(0.2, 10.001, 0.001)
    shape = grid[np.argmin((gamma(2 / grid) ** 2 / (gamma(1 / grid) * gamma(3 / grid)) - wanted) ** 2)]
    scale = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    return float(shape), float(left * scale), float(right * scale)


def slow_half(image: Floats) -> Floats:
    """Keys' kernel (a = -0.5) stretched to twice its width, at the places of MATLAB's imresize, borders mirrored."""
    for _ in range(2):
        padded = np.concatenate([image[:4][::-1], image, image[-4:][::-1]])
        distance = np.abs(np.arange(8) - 3.5) / 2
        near, far = 1.5 * distance**3 - 2.5 * distance**2 + 1, -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
        weights = np.where(distance <= 1, near, far)
        rows = [padded[2 * k + 1 : 2 * k + 9].T @ (weights / weights.sum()) for k in range(len(image) // 2)]
        image = np.array(rows).T
    return image


def slow_niqe(pixels: Floats, model: NaturalModel) -> float:
    """The definition, block by block."""
    luma = (16 + pixels.round() / 255 @ np.array([65.481, 128.553, 24.966])).round()[: len(pixels) // 96 * 96, :192]
    offsets = np.arange(-3, 4)
    line = np.exp(-(offsets**2) / (2 * (7 / 6) ** 2))
    window = np.outer(line, line) / line.sum() ** 2
    rows: list[list[float]] = [[] for _ in range(luma.size // 96**2)]
    for image, side in ((luma, 96), (slow_half(luma), 48)):
        mean = correlate(image, window, mode="nearest")
        contrast = np.sqrt(np.abs(correlate(image**2, window, mode="nearest") - mean**2))
        values = (image - mean) / (contrast + 1)
        corners = [(y, x) for y in range(0, len(image), side) for x in range(0, image.shape[1], side)]
        for row, (y, x) in zip(rows, corners, strict=True):
            block = values[y : y + side, x : x + side]
            shape, left, right = slow_fit(block.ravel())
            row += [shape, (left + right) / 2]
            for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
                shape, left, right = slow_fit((block * np.roll(block, shift, (0, 1))).ravel())
                row += [shape, (right - left) * gamma(2 / shape) / gamma(1 / shape), left, right]
    features = np.array(rows)
    difference = features.mean(0) - model.mean.numpy()
    pooled = (np.cov(features, rowvar=False) + model.covariance.numpy()) / 2
    return float(np.sqrt(difference @ np.linalg.pinv(pooled) @ difference))


def test_fits_find_shape_and_scales_of_laplace_and_gauss_distributions() -> None:
    places = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    laplace = -torch.log1p(-places)  # quantiles of the exponential distribution
    normal = torch.from_numpy(ndtri(0.5 + places.numpy() / 2))
    both = torch.cat([-2 * laplace, -2 * laplace, laplace])  # two thirds of the mass where the scale is twice as large
    shape, left, right = fit_asymmetric_gaussian(torch.stack([both, torch.cat([-normal, -normal, normal])]))
    assert shape.tolist() == pytest.approx([1.0, 2.0], abs=0.01)
    assert left.tolist() == pytest.approx([2.0, 2**0.5], rel=0.01)  # β is σ √2 of a Gaussian
    assert right.tolist() == pytest.approx([1.0, 2**0.5], rel=0.01)
    assert not torch.isfinite(fit_asymmetric_gaussian(torch.zeros(1, 9).double())[0]).any()


def test_the_distance_equals_a_slow_reference(photograph: Floats) -> None:
    noisy = photograph + 20 * np.random.default_rng(1).standard_normal(photograph.shape)
    model = model_around(0.5)
    for pixels in (photograph, noisy.clip(0, 255)):
        assert niqe(as_images(pixels), model).item() == pytest.approx(slow_niqe(pixels, model), rel=1e-6)


def test_an_image_grows_more_distant_from_its_own_statistics_with_noise_and_with_blur(photograph: Floats) -> None:
    model = model_around(0.5)
    here = np.random.default_rng(0).standard_normal(photograph.shape)
    kinds = {
        "noise": [as_images(photograph + sigma * here) for sigma in (0, 10, 40)],
        "blur": [as_images(gaussian_filter(photograph, (sigma, sigma, 0))) for sigma in (0, 1, 3)],
    }
    from evaluation.metrics.niqe import BLOCK_PIXELS, _features, _half, luma

    fine = luma(kinds["noise"][0]).round()[:, :, :288, :192]
    features = torch.cat([_features(fine, BLOCK_PIXELS), _features(_half(fine), BLOCK_PIXELS // 2)], dim=2)[0]
    own = NaturalModel(features.mean(0), model.covariance, "")
    for images in kinds.values():
        distances = [niqe(image, own).item() for image in images]
        assert distances[0] == pytest.approx(0, abs=1e-6) and distances == sorted(distances)


def test_the_model_is_read_from_the_release_and_from_basicsr(tmp_path: Path) -> None:
    model = model_around(1.0)
    mean, covariance = model.mean.numpy()[None], model.covariance.numpy()
    savemat(tmp_path / "modelparameters.mat", {"mu_prisparam": mean, "cov_prisparam": covariance})
    np.savez(tmp_path / "niqe_pris_params.npz", mu_pris_param=mean, cov_pris_param=covariance, gaussian_window=mean)
    for file in sorted(tmp_path.iterdir()):
        found = read_natural_model(file)
        assert torch.equal(found.mean, model.mean) and torch.equal(found.covariance, model.covariance)
        metrics = choose_metrics(("psnr", "niqe"), niqe_model=file)
        assert found.sha256 in metrics.definitions()["niqe"] and not metrics.unavailable


def test_files_and_images_that_do_not_do_are_refused_in_one_line(tmp_path: Path, photograph: Floats) -> None:
    np.savez(tmp_path / "short.npz", mu_pris_param=np.zeros(18), cov_pris_param=np.zeros((18, 18)))
    (tmp_path / "text.mat").write_text("no model")
    np.savez(tmp_path / "other.npz", mean=np.zeros(3))
    for name, words in (("short.npz", r"got \[18\]"), ("text.mat", "must hold"), ("other.npz", "must hold")):
        with pytest.raises(ValueError, match=words):
            read_natural_model(tmp_path / name)
    assert "modelparameters.mat" in choose_metrics(("niqe",)).unavailable["niqe"]
    with pytest.raises(ValueError, match=r"two blocks of 96 pixels or more, got 128 x 128"):
        niqe(as_images(photograph[:128, :128]), model_around(0.0))
    with pytest.raises(ValueError, match="not flat, got 0"):
        niqe(torch.zeros(1, 3, 192, 192, dtype=torch.uint8), model_around(0.0))
