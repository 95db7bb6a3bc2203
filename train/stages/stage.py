"""What both stages share: their networks, an average of the generator, optimizers, and the order of the updates."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from models import GPEN, Discriminator, Prior
from models.discriminator import ComponentDiscriminators
from models.files.release_file import FORMAT, Kind, lightning_entry
from train.run.progress import Progress
from train.updates import adversarial, optimization
from train.updates.augmentation import AdaptiveAugmentation

if TYPE_CHECKING:
    from train.stages.prior import PriorOptimization
    from train.stages.restoration import RestorationOptimization


@dataclass(frozen=True)
class Computation:
    """How the batch of an iteration is computed."""

    minibatch_group_size: int | None = 4
    """Neighbouring images whose standard deviation the discriminator compares; null for the whole batch."""
    recompute: bool = False
    """Compute activations again in the backward pass: less memory, more time (docs/performance.md)."""
    compile: bool = False
    """Let torch.compile fuse what lies between the convolutions; R1 and path length, whose graphs are differentiated
    twice, are computed without. Takes minutes at the start of every process (docs/gpu.md)."""
    num_parts: int = 1
    """Of the batch of a process, computed one after the other; set by `run.num_parts`."""
    seed: int = 0
    """Root of all randomness; set by `run.seed`."""


class Part(NamedTuple):
    """What the updates of an iteration need of one part of its batch."""

    real: Tensor
    """What the discriminator is to take for real, [N, 3, R, R] in [-1, 1]."""
    generate: Callable[[], Tensor]
    """Gives generated or restored images of the same shape with the generator's graph."""
    loss: Callable[[Tensor], optimization.PartLoss]
    """The generator's loss of these images."""
    generate_styled: Callable[[], adversarial.StyledImages]
    """Gives what the path length is computed from."""
    show: Callable[[Tensor], Tensor] = torch.detach
    """What the discriminator gets of generated images in its own update, without their graph."""


class Stage:
    """Two networks in training; a LightningModule registers them and says what a part of its batches is.

    It is no module itself, so that checkpoints hold the networks under the names that `models.read_checkpoint` reads.
    The average equals the generator as training starts; `components`, of eyes and mouth, are updated together with the
    discriminator, which the strength of `augmentation` follows.
    """

    def __init__(
        self,
        generator: Prior | GPEN,
        discriminator: Discriminator,
        ema: Prior | GPEN,
        regularization: adversarial.Regularization,
        average: optimization.MovingAverage,
        computation: Computation,
        components: ComponentDiscriminators | None = None,
        augmentation: AdaptiveAugmentation | None = None,
    ) -> None:
        for network in (generator, discriminator, ema):
            network.to(memory_format=torch.channels_last)
        self.generator, self.discriminator, self.ema = generator, discriminator, ema
        self.components, self.augmentation = components, augmentation
        decoder = generator.decoder if isinstance(generator, GPEN) else generator
        decoder.synthesis.recompute = discriminator.recompute = computation.recompute
        self.is_compiled = computation.compile
        if computation.compile:
            (generator if isinstance(generator, GPEN) else generator.synthesis).compile()  # tensors keep their names
            discriminator.compile()
        self.architecture = generator.architecture
        self.regularization = regularization
        self.average = average
        self.num_parts = computation.num_parts
        self.progress = Progress(computation.seed)

    def optimizers(
        self, generator: optimization.Groups, options: "PriorOptimization | RestorationOptimization"
    ) -> list[torch.optim.Optimizer]:
        """Gives Adam for the generator, whose groups of parameters have their own rates, and for the discriminator."""
        judges = [self.discriminator] if self.components is None else [self.discriminator, self.components]
        discriminator = [(judge.parameters(), options.discriminator_learning_rate) for judge in judges]
        optimizers: list[torch.optim.Optimizer] = [
            optimization.lazy_adam(generator, options.betas, self.regularization.path_length_interval),
            optimization.lazy_adam(discriminator, options.betas, self.regularization.r1_interval),
        ]
        self._rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
        self._options = options
        return optimizers

    def _schedule_rates(self, optimizers: Sequence[torch.optim.Optimizer], images_seen: int) -> None:
        """Sets the rates of the iteration that ends at `images_seen`; a checkpoint's rates are those of its end."""
        if self._options.schedule.is_constant:
            return
        factor = self._options.schedule.factor(images_seen)
        for optimizer, rates in zip(optimizers, self._rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
        self.progress.in_force["learning_rate/factor"] = factor

    def train(
        self, module: LightningModule, parts: Sequence[Part], num_images: int, needs_discriminator: bool = True
    ) -> None:
        """Computes one iteration: discriminator (if a loss of the generator reads it), R1, generator, path length,
        moving average.

        The module has the optimizers and the running mean of the path length. Parts are those of this process, images
        those of all processes. The generated images serve both updates; as the generator does not change between them
        this equals computing them twice, which is what happens where the batch is computed in parts.
        """
        wrapped: Any = module.optimizers()
        generator_optimizer, discriminator_optimizer = optimizers = [optimizer.optimizer for optimizer in wrapped]
        self._schedule_rates(optimizers, self.progress.images_seen + num_images)
        r, clip, log = self.regularization, self._options.clip_norm, self.progress.log
        iteration = self.progress.images_seen // num_images
        generated = [optimization.ReusedTensor(part.generate, is_kept=len(parts) == 1) for part in parts]

        if needs_discriminator:
            # Discriminator: logistic loss of real and generated images (Goodfellow et al. 2014, equation 1).
            pairs = ((part.real, part.show(images())) for part, images in zip(parts, generated, strict=True))
            updated = adversarial.update_discriminator(
                self.discriminator,
                discriminator_optimizer,
                pairs,
                clip.discriminator,
                self.components,
                self._options.discriminator_waits_below,
            )
            self._adapt_augmentation(updated, iteration, num_images)
            log("discriminator", updated)
            # Lazy R1, a step of its own (Mescheder et al. 2018, equation 9; StyleGAN2, section 3.1).
            if optimization.is_due(iteration, r.r1_interval):
                reals = (part.real for part in parts)
                with self._without_compiler():
                    updated = adversarial.regularize_discriminator(
                        self.discriminator, discriminator_optimizer, reals, r, clip.discriminator
                    )
                log("discriminator", updated)
        # Generator: the stage's own losses against the discriminator that was just updated.
        losses = (part.loss(images()) for part, images in zip(parts, generated, strict=True))
        log("generator", optimization.update(generator_optimizer, losses, clip.generator))
        # Lazy path length (StyleGAN2, equation 4).
        if optimization.is_due(iteration, r.path_length_interval):
            draws, running_mean = [part.generate_styled for part in parts], module.get_buffer("mean_path_length")
            with self._without_compiler():
                updated = adversarial.regularize_generator(draws, generator_optimizer, running_mean, r, clip.generator)
            log("generator", updated)

        # The average that is validated and exported follows (ProGAN, arXiv 1710.10196, section 6).
        self.progress.advance(num_images)
        optimization.follow(self.ema, self.generator, self.average.decay(self.progress.images_seen, num_images))

    def _adapt_augmentation(self, updated: optimization.Updated, iteration: int, num_images: int) -> None:
        """Lets the strength follow the sign of real scores (arXiv 2006.06676, section 3.1), and logs both."""
        real_sign = updated.logged.pop("real_sign")
        if self.augmentation is not None:
            updated.logged.update(real_sign=real_sign, augmentation=self.augmentation.probability.clone())
            self.augmentation.follow(real_sign, iteration, num_images)

    def _without_compiler(self) -> AbstractContextManager[object]:
        """Inside, compiled networks are computed as they are written, so that they can be differentiated twice."""
        return torch.compiler.set_stance("force_eager") if self.is_compiled else nullcontext()

    def store(self, checkpoint: dict[str, Any]) -> None:
        """Writes progress and what `models.read_checkpoint` needs into a Lightning checkpoint."""
        self.progress.store(checkpoint)
        kind: Kind = "gpen" if isinstance(self.generator, GPEN) else "prior"
        checkpoint[FORMAT] = lightning_entry(kind, self.architecture, self.discriminator.minibatch_group_size)
