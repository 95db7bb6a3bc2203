"""Stage 2: GPEN, with the prior as its decoder, learns to restore faces degraded by a preset or stored in pairs."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from data.dataset import FaceBatch
from data.degradation.presets import load_preset
from data.degradation.sampling import sample_parameters
from data.degradation.synthesis import Degraded, degrade
from data.randomness import draw_normal, seeded_initialization
from data.ranges import uint8_to_model
from models import GPEN, Architecture, Discriminator, Prior
from models.discriminator import ComponentDiscriminators
from models.gpen import noises_from_features
from models.quantization import Calibration
from train.reporting.console import Reporting
from train.stages.embedding import Transfer, describe_start, start_networks
from train.stages.quantized_fine_tuning import FakeQuantization
from train.stages.restoration_losses import RestorationLosses, RestorationLossWeights
from train.stages.stage import Computation, Part, Stage
from train.stages.validation import RestorationValidation
from train.updates.adversarial import Regularization, StyledImages
from train.updates.optimization import ClipNorm, MovingAverage, PartLoss, RateSchedule, check_rates, split


@dataclass(frozen=True)
class RestorationOptimization:
    """Learning rates of stage 2, its discriminator and its arithmetic.

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
    take_discriminator: bool = True
    """Go on with the discriminator of `start`, as the paper does; false begins a new one."""
    start_discriminator: Path | None = None
    """File that holds the discriminator to go on with, as public GPEN is released; null takes the one of `start`."""
    schedule: RateSchedule = RateSchedule()
    """Warm-up and decay of all rates, in images."""
    clip_norm: ClipNorm = ClipNorm()
    """Largest norm of the gradients of an update, by network."""
    discriminator_waits_below: float = 0.0
    """The discriminator's update is left out where its loss of the batch is below this, so that one that is far ahead
    waits (undecided is 1.39); R1 goes on; 0 for never."""
    quantization: Calibration | None = None
    """Round to int8 in the generator's forward pass, with ranges chosen so (max, mse, percentile, kl) from the first
    batch; null trains in float."""

    def __post_init__(self) -> None:
        check_rates(vars(self), self.betas)


class RestorationTraining(LightningModule):
    """Fine-tunes GPEN and a discriminator.

    Args:
        architecture: Resolution, channels, noise mode.
        start: Prior or GPEN checkpoint to start from, or a run's folder or its `best` or `last`; null starts from new
            weights.
        degradation: Preset (see configs/degradations) or YAML file.
        loss_weights: Of the generator's terms, and the frozen networks some of them need.
        optimization: Learning rates, the discriminator's start, rounding to int8.
        regularization: R1 and path length.
        average: Moving average of the generator.
        computation: How the batch of an iteration is computed.

    Source: GPEN (arXiv 2105.06070) section 3.
    """

    mean_path_length: Tensor

    def __init__(
        self,
        architecture: Architecture,
        start: Path | None = None,
        degradation: str = "released",
        loss_weights: RestorationLossWeights = RestorationLossWeights(),
        optimization: RestorationOptimization = RestorationOptimization(),
        regularization: Regularization = Regularization(path_length_interval=0),
        average: MovingAverage = MovingAverage(),
        computation: Computation = Computation(),
    ) -> None:
        if optimization.quantization is not None and computation.compile:
            raise ValueError(
                "computation.compile must be false with optimization.quantization, whose rounding no compiler follows; "
                "got true; change one of them"
            )
        super().__init__()
        self.automatic_optimization = False
        with seeded_initialization(computation.seed, "restoration"):
            self.generator = GPEN(architecture)
            self.discriminator = Discriminator(architecture, computation.minibatch_group_size)
        o = optimization
        self.transfers = start_networks(
            start, self.generator, self.discriminator, o.take_discriminator, o.start_discriminator
        )
        if optimization.decoder_learning_rate == 0:
            self.generator.decoder.requires_grad_(False)
        self.ema = deepcopy(self.generator).requires_grad_(False)
        self.register_buffer("mean_path_length", torch.zeros([]))
        self.components: ComponentDiscriminators | None = None
        if loss_weights.needs_components:
            with seeded_initialization(computation.seed, "components"):
                self.components = ComponentDiscriminators(architecture)
            self.transfers.append(Transfer.new("discriminators of eyes and mouth", self.components))
        self.stage = Stage(
            self.generator, self.discriminator, self.ema, regularization, average, computation, self.components
        )
        self.progress = self.stage.progress
        self.architecture = architecture
        self.degradation = degradation
        self.ranges = load_preset(degradation)
        self.losses = RestorationLosses(loss_weights)
        self.optimization = optimization
        calibration = optimization.quantization
        self.quantization = None if calibration is None else FakeQuantization(architecture, calibration)

    @property
    def locate(self) -> Callable[[Tensor], Tensor] | None:
        """What the loader asks of each target for the losses."""
        return self.losses.locate

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Gives Adam for the generator (encoder and decoder at their own rates) and for the discriminator."""
        o = self.optimization
        groups = [(list(self.generator.encoder.parameters()), o.encoder_learning_rate)]
        if o.decoder_learning_rate > 0:
            strengths, others = split_noise_strengths(self.generator.decoder)
            groups.append((others, o.decoder_learning_rate))
            if strengths:
                rate = o.noise_strength_learning_rate
                groups.append((strengths, o.decoder_learning_rate if rate is None else rate))
        return self.stage.optimizers(groups, o)

    def on_fit_start(self) -> None:
        """Moves the losses' networks to the device and says what started from what."""
        self.losses.to(self.device)
        if self.trainer.is_global_zero and self.progress.images_seen == 0:
            parts = {"encoder": self.generator.encoder, "decoder": self.generator.decoder}
            print(describe_start(self.transfers, parts | {"discriminator": self.discriminator}), flush=True)

    def training_step(self, batch: FaceBatch, batch_index: int) -> None:
        """Computes one iteration of GPEN: degradation, then the updates in the order of `Stage.train`."""
        num_images = len(batch.image_indices) * self.trainer.world_size
        self.progress.in_force |= self.losses.follow(self.progress.images_seen + num_images)
        parts = split(batch, self.stage.num_parts)
        # Degradation synthesis: a function of seed and image indices (GPEN, equation 4).
        faces = [self.degrade(part) for part in parts]
        # Ranges of int8, where it is trained for: once, from the first batch of all processes.
        if self.quantization is not None and self.progress.images_seen == 0:
            of_all_processes: Any = self.all_gather(torch.cat([face.degraded for face in faces]))
            self.quantization.calibrate(self.generator, of_all_processes.flatten(end_dim=-4))
        self.stage.train(
            self,
            [self._part(face, part) for face, part in zip(faces, parts, strict=True)],
            num_images,
            self.losses.weights.needs_discriminator,
        )

    def _part(self, face: Degraded, batch: FaceBatch) -> Part:
        some = slice(None, None, self.stage.regularization.path_length_batch_shrink)
        return Part(
            real=face.target,
            generate=partial(self.restore, self.generator, face.degraded),
            loss=partial(self._generator_loss, target=face.target, places=batch.places),
            generate_styled=partial(self._restore_styled, face.degraded[some], batch.image_indices[some]),
        )

    def degrade(self, batch: FaceBatch) -> Degraded:
        """Degrades those faces of a batch that have no stored version; a function of seed and image indices."""
        target = uint8_to_model(batch.target)
        resolution, seed = self.architecture.resolution, self.progress.seed
        synthetic = [i for i in range(len(target)) if batch.degraded is None or not batch.has_degraded[i]]
        parameters = [sample_parameters(self.ranges, seed, batch.image_indices[i], resolution) for i in synthetic]
        if batch.degraded is None:
            return degrade(target, parameters)
        stored = [i for i, has_degraded in enumerate(batch.has_degraded) if has_degraded]
        merged = Degraded(target.clone(memory_format=torch.channels_last), target.clone())
        merged.degraded[stored] = uint8_to_model(batch.degraded)
        if synthetic:
            made = degrade(target[synthetic], parameters)
            merged.degraded[synthetic], merged.target[synthetic] = made.degraded, made.target
        return merged

    def restore(self, generator: GPEN, degraded: Tensor) -> Tensor:
        """Restores faces [N, 3, R, R] in the arithmetic that is trained for; before the first batch, in float."""
        if self.quantization is None or not self.quantization.is_calibrated:
            restored: Tensor = generator(degraded)
            return restored
        return self.quantization.restore(generator, degraded)

    def _generator_loss(self, restored: Tensor, target: Tensor, places: Tensor | None) -> PartLoss:
        terms = self.losses(restored, target, self.discriminator, self.components, places)
        return PartLoss(self.losses.total(terms), terms)

    def _restore_styled(self, degraded: Tensor, image_indices: list[int]) -> StyledImages:
        # The encoder gives the latent, whose style all layers share, and features in the place of their noise.
        latent, features = self.generator.encoder(degraded)
        styles = self.generator.decoder.mapping(latent)[:, None].expand(-1, self.architecture.num_styles, -1)
        noises = noises_from_features(features, self.architecture.fed_convolutions)
        image = self.generator.decoder.synthesis(styles, noises)
        shape = tuple(image.shape[1:])
        direction = draw_normal(shape, self.progress.seed, "path length direction", image_indices, self.device)
        return StyledImages(image, styles, direction)

    def validation_callback(self, reporting: Reporting) -> RestorationValidation:
        """Gives what validates this stage."""
        return RestorationValidation(self, reporting)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Stores progress and architecture."""
        self.stage.store(checkpoint)

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
