"""Stage 2: GPEN, with the prior as its decoder, learns to restore synthetically degraded faces."""

from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from data.dataset import FaceBatch
from data.degradation.parameters import sample_parameters
from data.degradation.presets import load_preset
from data.degradation.synthesis import Degraded, degrade
from data.randomness import draw_normal, seeded_initialization
from data.ranges import uint8_to_model
from models import GPEN, Architecture, Discriminator, Prior
from models.gpen import noises_from_features
from models.quantization.clipping import Calibration
from train.reporting.console import Reporting
from train.run.checkpoints import RunCheckpoints
from train.run.progress import Progress
from train.run.settings import RunSettings
from train.stages.embedding import describe, start_networks
from train.stages.quantized_fine_tuning import FakeQuantization
from train.stages.restoration_losses import PerceptualWeights, RestorationLosses, RestorationLossWeights
from train.stages.restoration_validation import RestorationValidation
from train.updates.adversarial import (
    Regularization,
    StyledImages,
    regularize_discriminator,
    regularize_generator,
    update_discriminator,
)
from train.updates.moving_average import MovingAverage, follow
from train.updates.optimization import PartLoss, is_due, lazy_adam, update
from train.updates.parts import Recomputed, split


@dataclass(frozen=True)
class RestorationOptimization:
    """Learning rates of stage 2.

    Source: arXiv 2105.06070 section 4.1.
    """

    encoder_learning_rate: float = 2e-3
    """Adam's rate for the encoder."""
    decoder_learning_rate: float = 2e-4
    """Adam's rate for the decoder; 0 freezes it."""
    noise_strength_learning_rate: float | None = None
    """Adam's rate for the decoder's noise strengths, one number per layer; null takes the decoder's. A prior learns to
    switch its noise off, and with strengths near 0 neither the encoder's features nor their gradients pass."""
    discriminator_learning_rate: float = 2e-5
    """Adam's rate for the discriminator."""
    betas: tuple[float, float] = (0.0, 0.99)
    """Adam's betas, before the correction for lazy regularisation."""


class RestorationTraining(LightningModule):
    """Fine-tunes GPEN and a discriminator.

    The restored images of an iteration serve both updates; as the generator does not change between them this equals
    computing them twice, which is what happens where the batch is computed in parts.

    Args:
        architecture: Resolution, channels, noise mode.
        start: Prior or GPEN checkpoint to start from; null starts from new weights.
        take_discriminator: Start from the checkpoint's discriminator, as the paper does.
        degradation: Preset (see configs/degradations) or YAML file.
        loss_weights: Of the generator's terms.
        perceptual: Files of the frozen networks of some terms.
        optimization: Learning rates.
        regularization: R1 and path length.
        average: Moving average of the generator.
        minibatch_group_size: Of the discriminator's standard deviation; null for the whole batch.
        num_parts: Of the batch of a process, computed one after the other; set by `run.num_parts`.
        recompute: Compute activations again in the backward pass: less memory, more time (docs/performance.md).
        quantization: Round to int8 in the generator's forward pass, with ranges chosen so (max, mse, percentile, kl)
            from the first batch; null trains in float.
        seed: Of the run; set by `run.seed`.

    Source: GPEN (arXiv 2105.06070) section 3.
    """

    mean_path_length: Tensor

    def __init__(
        self,
        architecture: Architecture,
        start: Path | None = None,
        take_discriminator: bool = True,
        degradation: str = "released",
        loss_weights: RestorationLossWeights = RestorationLossWeights(),
        perceptual: PerceptualWeights = PerceptualWeights(),
        optimization: RestorationOptimization = RestorationOptimization(),
        regularization: Regularization = Regularization(path_length_interval=0),
        average: MovingAverage = MovingAverage(),
        minibatch_group_size: int | None = 4,
        num_parts: int = 1,
        recompute: bool = False,
        quantization: Calibration | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        with seeded_initialization(seed, "restoration"):
            self.generator = GPEN(architecture)
            self.discriminator = Discriminator(architecture, minibatch_group_size)
        self.transfers = start_networks(start, self.generator, self.discriminator, take_discriminator)
        self.generator.to(memory_format=torch.channels_last)
        self.discriminator.to(memory_format=torch.channels_last)
        if optimization.decoder_learning_rate == 0:
            self.generator.decoder.requires_grad_(False)
        self.ema = deepcopy(self.generator).requires_grad_(False)
        self.generator.decoder.synthesis.recompute = self.discriminator.recompute = recompute
        self.register_buffer("mean_path_length", torch.zeros([]))
        self.architecture = architecture
        self.degradation = degradation
        self.ranges = load_preset(degradation)
        self.losses = RestorationLosses(loss_weights, perceptual)
        self.optimization = optimization
        self.regularization = regularization
        self.average = average
        self.num_parts = num_parts
        self.quantization = None if quantization is None else FakeQuantization(architecture, quantization)
        self.progress = Progress(seed)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam for the generator (encoder and decoder at their own rates) and for the discriminator."""
        o, r = self.optimization, self.regularization
        groups = [(list(self.generator.encoder.parameters()), o.encoder_learning_rate)]
        if o.decoder_learning_rate > 0:
            strengths, others = split_noise_strengths(self.generator.decoder)
            groups.append((others, o.decoder_learning_rate))
            if strengths:
                rate = o.noise_strength_learning_rate
                groups.append((strengths, o.decoder_learning_rate if rate is None else rate))
        generator = lazy_adam(groups, o.betas, r.path_length_interval)
        discriminator = lazy_adam(
            [(self.discriminator.parameters(), o.discriminator_learning_rate)], o.betas, r.r1_interval
        )
        return [generator, discriminator]

    def on_fit_start(self) -> None:
        """Moves the losses' networks to the device and says what started from what."""
        self.losses.to(self.device)
        if self.trainer.is_global_zero and self.progress.images_seen == 0:
            print(describe(self.transfers), flush=True)

    def training_step(self, batch: FaceBatch, batch_index: int) -> None:
        """One iteration: degradation, discriminator, R1, generator, path length, moving average."""
        parts = split(batch, self.num_parts)
        faces = [self.degrade(part) for part in parts]
        restored = [Recomputed(partial(self.restore, self.generator, face.degraded), len(parts) == 1) for face in faces]
        batch_size = len(batch.image_indices) * self.trainer.world_size
        iteration = self.progress.images_seen // batch_size
        r, log = self.regularization, self.progress.log

        if self.quantization is not None and self.progress.images_seen == 0:
            of_all_processes: Any = self.all_gather(torch.cat([face.degraded for face in faces]))
            self.quantization.calibrate(self.generator, of_all_processes.flatten(end_dim=-4))
        if self.losses.weights.needs_discriminator:
            pairs = ((face.target, restore().detach()) for face, restore in zip(faces, restored, strict=True))
            log("discriminator", update_discriminator(self.discriminator, self._optimizer(1), pairs))
            if is_due(iteration, r.r1_interval):
                targets = (face.target for face in faces)
                log("discriminator", regularize_discriminator(self.discriminator, self._optimizer(1), targets, r))
        losses = (self._generator_loss(restore(), face.target) for face, restore in zip(faces, restored, strict=True))
        log("generator", update(self._optimizer(0), losses))
        if is_due(iteration, r.path_length_interval):
            some = slice(None, None, r.path_length_batch_shrink)
            draws = [
                partial(self._restore_styled, face.degraded[some], part.image_indices[some])
                for face, part in zip(faces, parts, strict=True)
            ]
            log("generator", regularize_generator(draws, self._optimizer(0), self.mean_path_length, r))

        self.progress.images_seen += batch_size
        follow(self.ema, self.generator, self.average.decay(self.progress.images_seen, batch_size))

    def degrade(self, batch: FaceBatch) -> Degraded:
        """Degrades the faces of a batch; a function of seed and image indices."""
        target = uint8_to_model(batch.target)
        resolution = self.architecture.resolution
        parameters = [sample_parameters(self.ranges, self.progress.seed, k, resolution) for k in batch.image_indices]
        return degrade(target, parameters)

    def restore(self, generator: GPEN, degraded: Tensor) -> Tensor:
        """Restores faces [N, 3, R, R] in the arithmetic that is trained for; before the first batch, in float."""
        if self.quantization is None or not self.quantization.is_calibrated:
            restored: Tensor = generator(degraded)
            return restored
        return self.quantization.restore(generator, degraded)

    def _generator_loss(self, restored: Tensor, target: Tensor) -> PartLoss:
        terms = self.losses(restored, target, self.discriminator)
        return PartLoss(self.losses.total(terms), terms)

    def _restore_styled(self, degraded: Tensor, image_indices: list[int]) -> StyledImages:
        latent, features = self.generator.encoder(degraded)
        styles = self.generator.decoder.mapping(latent)[:, None].expand(-1, self.architecture.num_styles, -1)
        noises = noises_from_features(features, self.architecture.fed_convolutions)
        image = self.generator.decoder.synthesis(styles, noises)
        shape = tuple(image.shape[1:])
        direction = draw_normal(shape, self.progress.seed, "path length direction", image_indices, self.device)
        return StyledImages(image, styles, direction)

    def _optimizer(self, index: int) -> torch.optim.Optimizer:
        optimizers: Any = self.optimizers()
        return optimizers[index].optimizer

    def validation_callback(
        self, settings: RunSettings, batch_size: int, reporting: Reporting, checkpoints: RunCheckpoints
    ) -> RestorationValidation:
        """What validates this stage."""
        return RestorationValidation(settings, batch_size, reporting, checkpoints)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Stores progress and architecture."""
        self.progress.store(checkpoint, "gpen", self.architecture, self.discriminator.minibatch_group_size)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes back the progress."""
        self.progress.restore(checkpoint)


def split_noise_strengths(decoder: Prior) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The noise strengths of a decoder and all its other parameters."""
    strengths: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in decoder.named_parameters():
        (strengths if name.endswith("noise_strength") else others).append(parameter)
    return strengths, others
