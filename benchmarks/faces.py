"""Degradation of ready faces, and a training run that has to read its faces."""

from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.contenders import Part
from benchmarks.iterations import Iterations, Precision, Size, images
from data.degradation.operators import gaussian_kernels
from data.degradation.presets import load_preset
from data.degradation.sampling import BlurKernel, DegradationParameters, sample_parameters
from data.degradation.synthesis import degrade
from train.run.data_module import FacesDataModule
from train.run.settings import FaceSettings, RunSettings

NUM_DEGRADED_IMAGES = 32
"""Degraded in one run, in batches: their sizes and blurs differ widely."""


def degrading(size: Size, preset: str) -> list[Part]:
    """Sampling and applying a preset; seconds per batch."""
    ranges, target = load_preset(preset), images(size)
    resolution, num_images = size.architecture.resolution, size.batch_size

    def run() -> None:
        for first in range(0, NUM_DEGRADED_IMAGES, num_images):
            indices = range(first, first + num_images)
            degrade(target, [sample_parameters(ranges, 0, k, resolution) for k in indices])

    return [Part(run, num_images / NUM_DEGRADED_IMAGES)]


def degrading_with_opencv(size: Size, preset: str) -> list[Part]:
    """The same with OpenCV and NumPy, image by image, as GFPGAN's and GPEN's data sets do; seconds per batch."""
    ranges, resolution = load_preset(preset), size.architecture.resolution
    cv2.setNumThreads(torch.get_num_threads())
    target = np.random.default_rng(0).random((resolution, resolution, 3), dtype=np.float32)

    def run() -> None:
        for k in range(NUM_DEGRADED_IMAGES):
            degrade_with_opencv(target, sample_parameters(ranges, 0, k, resolution))

    return [Part(run, size.batch_size / NUM_DEGRADED_IMAGES)]


def degrade_with_opencv(target: np.ndarray, parameters: DegradationParameters) -> np.ndarray:
    """One image float32 [R, R, 3], BGR in [0, 1], through blur, downscaling, noise, JPEG and resizing back."""
    image, size = target, parameters.resolution
    for step in parameters.rounds:
        if step.blur is not None:
            image = cv2.filter2D(image, -1, _gaussian_kernel(step.blur), borderType=cv2.BORDER_REFLECT_101)
        small = int(size / step.downscale)
        image = cv2.resize(image, (small, small), interpolation=cv2.INTER_LINEAR)
        noise = np.random.default_rng(step.noise_seed).standard_normal(image.shape, dtype=np.float32)
        image = np.clip(image + noise * (step.noise_sigma / 255), 0, 1)
        if step.jpeg_quality is not None:
            quality = [cv2.IMWRITE_JPEG_QUALITY, step.jpeg_quality]
            _, encoded = cv2.imencode(".jpg", (image * 255).round().astype(np.uint8), quality)
            image = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR)).astype(np.float32) / 255
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
    return image


def _gaussian_kernel(blur: BlurKernel) -> np.ndarray:
    """[K, K]."""
    numbers = (blur.sigma_x_pixels, blur.sigma_y_pixels, blur.angle_radians)
    sigma_x, sigma_y, angle = (torch.tensor([number]) for number in numbers)
    return gaussian_kernels(sigma_x, sigma_y, angle, blur.kernel_size_pixels)[0].numpy()


def training(
    size: Size, precision: Precision, num_iterations: int, faces: Path | None = None, num_workers: int = 0
) -> list[Part]:
    """Stage 2 on one ready batch or, with faces, on the batches of a data loader; seconds per iteration."""
    iterations = Iterations(2, size, precision)
    batches: Iterator[Any] = repeat(None)
    if faces is not None:
        settings = FaceSettings(faces, size.batch_size, num_workers=num_workers, num_validation_faces=1)
        data = FacesDataModule(settings, RunSettings(total_images=10**9))
        data.trainer = iterations.trainer
        batches = iter(data.train_dataloader())

    def run() -> None:
        for _ in range(num_iterations):
            iterations.run(batch=next(batches))

    return [Part(run, 1 / num_iterations)]
