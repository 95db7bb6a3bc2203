"""NIQE: how far the statistics of an image lie from those of undistorted photographs; no target is needed."""

import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from scipy.io import loadmat
from scipy.io.matlab import MatReadError
from scipy.special import gamma
from torch import Tensor
from torch.nn import functional

from evaluation.metrics.image_metrics import gaussian_window, luma

BLOCK_PIXELS, WINDOW_PIXELS, NUM_FEATURES = 96, 7, 36
SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Rows and columns to the neighbours whose products are looked at."""
DEFINITION = (
    "NIQE (Mittal et al. 2013) as BasicSR computes it: Y of YCbCr rounded, whole blocks of 96 pixels from the upper "
    "left corner, two scales, per image, without the target; model of undistorted photographs with SHA-256 {sha256}"
)
_DAMAGED = (ValueError, LookupError, TypeError, AttributeError, NotImplementedError, EOFError, BadZipFile, MatReadError)
"""What NumPy and SciPy raise at files of another kind."""


class NaturalModel(NamedTuple):
    """What blocks of undistorted photographs look like."""

    mean: Tensor
    """Of the features, float64 [36]."""
    covariance: Tensor
    """Of the features, float64 [36, 36]."""
    sha256: str
    """Of the file."""


def read_natural_model(path: Path) -> NaturalModel:
    """Reads the published model, `modelparameters.mat` of the authors' release or `niqe_pris_params.npz` as BasicSR has
    it; ValueError where the file holds something else."""
    try:
        content = np.load(path, allow_pickle=False) if path.suffix == ".npz" else loadmat(path)
        arrays = {name.replace("_", ""): np.asarray(content[name]) for name in content if "param" in name}
        mean = arrays["muprisparam"].astype(np.float64).reshape(-1)
        covariance = arrays["covprisparam"].astype(np.float64)
    except _DAMAGED as error:
        raise ValueError(
            f"{path} must hold mu_prisparam and cov_prisparam of NIQE's release, but does not: {error}"
        ) from error
    if mean.shape != (NUM_FEATURES,) or covariance.shape != (NUM_FEATURES,) * 2:
        raise ValueError(
            f"{path} must hold the means [36] and covariances [36, 36] of NIQE's release, got {list(mean.shape)} and "
            f"{list(covariance.shape)}; give its modelparameters.mat or BasicSR's niqe_pris_params.npz"
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return NaturalModel(torch.from_numpy(mean), torch.from_numpy(covariance), digest)


def niqe(images: Tensor, model: NaturalModel) -> Tensor:
    """Distance of each image uint8 [N, 3, H, W], RGB, into which at least two blocks of 96 × 96 pixels fit, from
    undistorted photographs: float64 [N], at least 0; lower is better. ValueError where an image is too small, or all
    but one of its blocks are flat.

    Source: Mittal, Soundararajan and Bovik 2013 (IEEE Signal Processing Letters 20), equations 1 to 10.
    """
    height, width = (size // BLOCK_PIXELS * BLOCK_PIXELS for size in images.shape[2:])
    if height * width < 2 * BLOCK_PIXELS**2:
        raise ValueError(
            f"NIQE needs images of two blocks of {BLOCK_PIXELS} pixels or more, got {images.shape[3]} x "
            f"{images.shape[2]}; leave niqe out"
        )
    fine = luma(images).round()[:, :, :height, :width]
    scales = [_features(fine, BLOCK_PIXELS), _features(_half(fine), BLOCK_PIXELS // 2)]
    features = torch.cat(scales, dim=2)  # [N, B, 36]
    return torch.stack([_distance(blocks, model) for blocks in features])


def _distance(blocks: Tensor, model: NaturalModel) -> Tensor:
    """Equation 10, between the model and the features [B, 36] of an image."""
    varied = blocks[torch.isfinite(blocks).all(dim=1)]
    if len(varied) < 2:
        raise ValueError(
            f"NIQE needs two blocks of {BLOCK_PIXELS} pixels that are not flat, got {len(varied)}; leave it out"
        )
    difference = torch.nanmean(blocks, dim=0) - model.mean
    return (difference @ torch.linalg.pinv((torch.cov(varied.T) + model.covariance) / 2) @ difference).sqrt()


def _features(image: Tensor, block_pixels: int) -> Tensor:
    """Eighteen features of each block: [N, 1, H, W] to [N, B, 18]."""
    blocks = _normalized(image).unfold(2, block_pixels, block_pixels).unfold(3, block_pixels, block_pixels)
    blocks = blocks.flatten(1, 3)  # [N, B, b, b]
    shape, left, right = fit_asymmetric_gaussian(blocks.flatten(2))
    features = [shape, (left + right) / 2]
    for shift in SHIFTS:
        shape, left, right = fit_asymmetric_gaussian((blocks * blocks.roll(shift, dims=(2, 3))).flatten(2))
        features += [shape, (right - left) * _gamma(2 / shape) / _gamma(1 / shape), left, right]
    return torch.stack(features, dim=2)


def _normalized(image: Tensor) -> Tensor:
    """Equation 1: what is left without local mean and contrast."""
    line = gaussian_window(WINDOW_PIXELS, WINDOW_PIXELS / 6)
    window = (line[:, None] * line)[None, None]
    padded = functional.pad(image, (WINDOW_PIXELS // 2,) * 4, mode="replicate")
    mean, square = functional.conv2d(padded, window), functional.conv2d(padded.square(), window)
    return (image - mean) / ((square - mean.square()).abs().sqrt() + 1)


def fit_asymmetric_gaussian(samples: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fits generalised Gaussian distributions with a scale for each side of 0 to samples float64 [..., S], by moments:
    shape in [0.2, 10] (2 for a Gaussian) and scales β below and above 0, each [...]; not a number without samples on
    both sides.

    Source: Mittal et al. 2013, equations 4 to 8; the moments' quotient is inverted on the release's grid.
    """
    squares, is_left, is_right = samples.square(), samples < 0, samples > 0
    left, right = ((squares * side).sum(-1).div(side.sum(-1)).sqrt() for side in (is_left, is_right))
    ratio = left / right
    quotient = samples.abs().mean(-1).square() / squares.mean(-1)
    quotient = quotient * (ratio**3 + 1) * (ratio + 1) / (ratio.square() + 1).square()
    shapes, quotients = _quotients()
    above = torch.searchsorted(quotients, quotient.contiguous()).clamp(1, len(quotients) - 1)
    is_nearer_below = quotient - quotients[above - 1] < quotients[above] - quotient
    shape = torch.where(torch.isfinite(quotient), shapes[above - is_nearer_below.long()], torch.nan)
    scale = (_gamma(1 / shape) / _gamma(3 / shape)).sqrt()
    return shape, left * scale, right * scale


@cache
def _quotients() -> tuple[Tensor, Tensor]:
    """Shapes from 0.2 to 10 and the rising quotients E|x|² / E x² of their distributions."""
    shapes = np.arange(0.2, 10.001, 0.001)
    quotients = gamma(2 / shapes) ** 2 / (gamma(1 / shapes) * gamma(3 / shapes))
    return torch.from_numpy(shapes), torch.from_numpy(quotients)


def _gamma(values: Tensor) -> Tensor:
    return torch.lgamma(values).exp()


def _half(image: Tensor) -> Tensor:
    """Half the size of [N, 1, H, W] as MATLAB's imresize does it: bicubic, antialiased, borders mirrored."""
    for dim in (2, 3):
        first, last = image.narrow(dim, 0, 4), image.narrow(dim, image.shape[dim] - 4, 4)
        image = torch.cat([first.flip(dim), image, last.flip(dim)], dim)
    size = (image.shape[2] // 2, image.shape[3] // 2)
    return functional.interpolate(image, size, mode="bicubic", antialias=True)[:, :, 2:-2, 2:-2]
