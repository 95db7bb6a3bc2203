"""What one training iteration consists of: ours, the textbook's and the floor of its dense convolutions."""

import math
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Literal

import torch
from pytorch_lightning import Trainer
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.contenders import Part
from benchmarks.textbook import PATH_LENGTH_INTERVAL, R1_INTERVAL, TextbookTraining
from data.dataset import FaceBatch
from models import GPEN, Architecture, Discriminator, Prior
from models.operators.convolution import convolution_gradients
from models.operators.formulations import Options, choosing, fastest
from train.stages.prior import PriorTraining
from train.stages.restoration import RestorationOptimization, RestorationTraining
from train.stages.restoration_losses import RestorationLossWeights
from train.stages.stage import Computation
from train.training import quiet_libraries
from train.updates.adversarial import Regularization

_CONVOLUTIONS = (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)

_REPLAYED: dict[Any, Callable[..., object]] = {
    _CONVOLUTIONS[0]: _CONVOLUTIONS[0],
    _CONVOLUTIONS[1]: lambda gradient, x, weight, bias, stride, padding, dilation, transposed, _, groups, needed: (
        convolution_gradients(gradient, x, weight, Options(stride[0], padding[0], transposed), tuple(needed))
    ),
}

Signature = tuple[Any, ...]


class ConvolutionRecorder(TorchDispatchMode):
    """Counts the dense convolutions, forward and backward, that run inside it, by shapes, layouts and options.

    Depthwise filters are left out: they are overhead that a better formulation could avoid.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[Signature] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), options: dict[str, Any] | None = None
    ) -> Any:
        """Counts and passes on."""
        if function in _CONVOLUTIONS:
            is_backward = function is _CONVOLUTIONS[1]  # whose first argument is the output's gradient
            weight, groups = arguments[1 + is_backward], arguments[8 + is_backward]
            if groups == 1 and weight.shape[:2] != (1, 1):
                self.calls[(function, *(_describe(argument) for argument in arguments))] += 1
        return function(*arguments, **(options or {}))


def record(function: Callable[[], object]) -> Counter[Signature]:
    """The dense convolutions of one call of a function."""
    with ConvolutionRecorder() as recorder:
        function()
    return recorder.calls


def operations_of(call: Signature) -> int:
    """Multiplications and additions of a recorded convolution, or of those of its gradients that were asked for."""
    is_backward = call[0] is _CONVOLUTIONS[1]
    x, weight, _, stride, padding, _, is_transposed, *_ = call[1 + is_backward :]
    num_images, _, *size = x[1]
    if not is_transposed:  # a transposed one multiplies once for every pixel that it reads
        kernel_size = weight[1][-1]
        size = [(pixels + 2 * padding[0] - kernel_size) // stride[0] + 1 for pixels in size]
    number = sum(call[-1][:2]) if is_backward else 1
    return 2 * number * math.prod(weight[1]) * num_images * math.prod(size)


def replay(calls: Counter[Signature]) -> Callable[[], None]:
    """A function that runs the convolutions that `record` gave, as often, and nothing else, on random numbers of the
    same layout: one call takes the time of the floor. Gradients are computed in the formulation that
    `models.operators.formulations` is told to choose."""
    instantiate = cache(_instantiate)  # operands of one kind are one tensor, else the floor takes more than training
    prepared = [
        (_REPLAYED[signature[0]], [instantiate(argument) for argument in signature[1:]], count)
        for signature, count in calls.items()
    ]

    def run() -> None:
        with torch.no_grad():
            for function, arguments, count in prepared:
                for _ in range(count):
                    function(*arguments)

    return run


def _describe(argument: Any) -> Any:
    """A tensor by shape, strides and precision, everything else by its value, as something that can be counted."""
    if isinstance(argument, Tensor):
        return ("tensor", tuple(argument.shape), tuple(argument.stride()), argument.dtype)
    return tuple(argument) if isinstance(argument, list) else argument


def _instantiate(argument: Any) -> Any:
    if isinstance(argument, tuple) and argument and argument[0] == "tensor":
        _, shape, strides, dtype = argument
        return torch.empty_strided(shape, strides, dtype=dtype).normal_()
    return list(argument) if isinstance(argument, tuple) else argument


Precision = Literal["32-true", "bf16-mixed"]
Stage = Literal[1, 2]
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Size:
    """Size of a network and its batch."""

    architecture: Architecture
    batch_size: int

    def __str__(self) -> str:
        a = self.architecture
        return f"{a.resolution} px, m {a.channel_multiplier}, n {a.narrow:g}, batch {self.batch_size}"


class Iterations:
    """The training module of a stage on one batch of ready images, with the recipe of the benchmark: stage 2 is the
    released recipe without identity loss, stage 1 StyleGAN2's. `is_compiled` has torch.compile prepare the networks."""

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
        self.module.to(device)
        self.trainer = attach_trainer(self.module, precision, device)
        resolution, num_images = size.architecture.resolution, size.batch_size
        random = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (num_images, 3, resolution, resolution), dtype=torch.uint8, generator=random)
        self.batch = FaceBatch(pixels.to(device), list(range(num_images)))

    def run(self, r1: bool = False, path_length: bool = False, batch: FaceBatch | None = None) -> None:
        """One iteration, with or without R1 and the path length penalty, on a batch (None for the ready one)."""
        self.module.stage.regularization = replace(
            Regularization(), r1_interval=int(r1), path_length_interval=int(path_length)
        )
        with self.trainer.precision_plugin.train_step_context():
            self.module.training_step(self.batch if batch is None else batch, 0)


def attach_trainer(module: PriorTraining | RestorationTraining, precision: str, device: torch.device = CPU) -> Trainer:
    """Gives a module on its device what `training_step` needs of Lightning: trainer, precision and optimizers."""
    quiet_libraries()
    trainer = Trainer(
        accelerator="cpu" if device.type == "cpu" else "gpu",
        devices=1 if device.type == "cpu" else [device.index or 0],
        precision=precision,  # type: ignore[arg-type]
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    module.trainer = trainer
    trainer.strategy.connect(module)
    trainer.strategy.optimizers = module.configure_optimizers()
    return trainer


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


def textbook(
    stage: Stage, size: Size, device: torch.device = CPU, identity: Callable[[Tensor, Tensor], Tensor] | None = None
) -> list[Part]:
    """Parts of an iteration as public code computes them, in float32; with an identity loss where it is given."""
    generator = Prior(size.architecture) if stage == 1 else GPEN(size.architecture)
    training = TextbookTraining(generator.to(device), Discriminator(size.architecture, None).to(device), identity)
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
