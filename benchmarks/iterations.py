"""What one training iteration consists of: ours, the textbook's and the floor of its dense convolutions."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from pytorch_lightning import Trainer
from torch import Tensor

from benchmarks.contenders import Part
from benchmarks.convolution_floor import record, replay
from benchmarks.textbook import PATH_LENGTH_INTERVAL, R1_INTERVAL, TextbookTraining
from data.dataset import FaceBatch
from models import GPEN, Architecture, Discriminator, Prior
from models.operators.formulations import choosing, fastest
from train.stages.prior import PriorTraining
from train.stages.restoration import RestorationOptimization, RestorationTraining
from train.stages.restoration_losses import RestorationLossWeights
from train.stages.stage import Computation
from train.updates.adversarial import Regularization

Precision = Literal["32-true", "bf16-mixed"]
Stage = Literal[1, 2]
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Size:
    """Of a network and its batch."""

    architecture: Architecture
    batch_size: int

    def __str__(self) -> str:
        a = self.architecture
        return f"{a.resolution} px, m {a.channel_multiplier}, n {a.narrow:g}, batch {self.batch_size}"


class Iterations:
    """The training module of a stage on one batch of ready images, with the recipe of the benchmark.

    Stage 2 is the released recipe without identity loss, stage 1 StyleGAN2's.

    Args:
        stage: 1 or 2.
        size: Network and batch.
        precision: As Lightning names it.
        device: Where it trains.
        is_compiled: Whether torch.compile prepares the networks.
    """

    def __init__(
        self, stage: Stage, size: Size, precision: Precision, device: torch.device = CPU, is_compiled: bool = False
    ) -> None:
        self.module: PriorTraining | RestorationTraining
        whole_batch = Computation(minibatch_group_size=None, compile=is_compiled)
        if stage == 1:
            self.module = PriorTraining(size.architecture, computation=whole_batch, fid_num_images=0)
        else:
            self.module = RestorationTraining(
                size.architecture,
                loss_weights=RestorationLossWeights(l1=0.0, smooth_l1=1.0),
                optimization=RestorationOptimization(2e-3, 2e-3, None, 2e-3),
                computation=whole_batch,
            )
        self.trainer = Trainer(
            accelerator="cpu" if device.type == "cpu" else "gpu",
            devices=1 if device.type == "cpu" else [device.index or 0],
            precision=precision,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        )
        self.module.trainer = self.trainer
        self.module.to(device)
        self.trainer.strategy.connect(self.module)
        self.trainer.strategy.optimizers = self.module.configure_optimizers()
        resolution, num_images = size.architecture.resolution, size.batch_size
        random = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (num_images, 3, resolution, resolution), dtype=torch.uint8, generator=random)
        self.batch = FaceBatch(pixels.to(device), list(range(num_images)))

    def run(self, r1: bool = False, path_length: bool = False, batch: FaceBatch | None = None) -> None:
        """One iteration.

        Args:
            r1: With R1.
            path_length: With the path length penalty.
            batch: Instead of the ready one.
        """
        self.module.stage.regularization = replace(
            Regularization(), r1_interval=int(r1), path_length_interval=int(path_length)
        )
        with self.trainer.precision_plugin.train_step_context():
            self.module.training_step(self.batch if batch is None else batch, 0)


def choose_formulations() -> None:
    """From here on, to the end of the process, convolutions are computed as in a run, in their fastest formulation."""
    ExitStack().enter_context(choosing(lambda name, candidates: fastest(candidates)))


def ours(stage: Stage, size: Size, precision: Precision) -> list[Part]:
    """Parts of an iteration: as it is, and what the lazy terms add, amortised."""
    choose_formulations()
    return parts_of(Iterations(stage, size, precision))


def parts_of(iterations: Iterations) -> list[Part]:
    """An iteration as it is, and what the lazy terms add, with how often each is computed."""
    run = iterations.run
    # An iteration with a lazy term minus one without is the term, so the one without is counted less often.
    return [
        Part(run, 1 - 1 / R1_INTERVAL - 1 / PATH_LENGTH_INTERVAL),
        Part(partial(run, r1=True), 1 / R1_INTERVAL),
        Part(partial(run, path_length=True), 1 / PATH_LENGTH_INTERVAL),
    ]


def floor(stage: Stage, size: Size, precision: Precision) -> list[Part]:
    """Nothing but the dense convolutions of `ours`, each in its fastest formulation."""
    recorded = [(record(part.run), part.share) for part in parts_of(Iterations(stage, size, precision))]  # all whole
    choose_formulations()
    return [Part(replay(calls), share) for calls, share in recorded]


def textbook(stage: Stage, size: Size, device: torch.device = CPU) -> list[Part]:
    """Parts of an iteration as public code computes them, in float32."""
    generator = Prior(size.architecture) if stage == 1 else GPEN(size.architecture)
    training = TextbookTraining(generator.to(device), Discriminator(size.architecture, None).to(device))
    degraded, target = images(size).to(device), images(size).to(device)
    return [
        Part(partial(training.step, degraded, target)),
        Part(partial(training.penalize_discriminator, target), 1 / R1_INTERVAL),
        Part(partial(training.penalize_generator, degraded), 1 / PATH_LENGTH_INTERVAL),
    ]


def images(size: Size) -> Tensor:
    """[N, 3, R, R] in [-1, 1]."""
    resolution = size.architecture.resolution
    return torch.rand(size.batch_size, 3, resolution, resolution) * 2 - 1
