"""Iterations of both stages on a card: textbook, ours, ours compiled; time, memory, share of its peak, kernels."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.contenders import Part
from benchmarks.iterations import Iterations, Precision, Size, Stage, operations_of, parts_of, record, textbook
from system import machine
from system.wording import unwrapped

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "kornia", "numpy", "safetensors")
SHORTEST_SECONDS = 0.5
"""A product of matrices is repeated so long."""
MOST_RUNS = 50


@dataclass(frozen=True)
class Card:
    """A GPU; a CPU may stand in for it, to try the check itself."""

    device: torch.device

    def __post_init__(self) -> None:
        if self.is_gpu and not torch.cuda.is_available():
            raise ValueError(
                f"--device must be one that torch can use, got {self.device}; torch {torch.__version__} sees no GPU "
                "(nvidia-smi shows whether there is one; --device cpu tries the check without)"
            )

    @property
    def is_gpu(self) -> bool:
        """Whether it is no CPU."""
        return self.device.type == "cuda"

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions of training that it computes in its own units; float32 alone on a CPU."""
        return machine.native_precisions(on_gpu=True) if self.is_gpu else (machine.FLOAT32,)

    def wait(self) -> None:
        """Returns when all that was queued is done."""
        if self.is_gpu:
            torch.cuda.synchronize(self.device)

    def forget_memory(self) -> None:
        """Frees what nobody holds and starts `most_memory` anew."""
        gc.collect()
        if self.is_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def most_memory(self) -> int | None:
        """Most bytes that tensors held at a time since `forget_memory`; None for a CPU."""
        return torch.cuda.max_memory_allocated(self.device) if self.is_gpu else None

    def seconds(self, run: Callable[[], object], limit: float) -> float:
        """Seconds of one run, done before so that its kernels are there, as a mean over as many as fit into a limit; at
        least two."""
        self.wait()
        start = time.perf_counter()
        run()
        self.wait()
        once = time.perf_counter() - start
        number = min(max(int(limit / max(once, 1e-6)), 1), MOST_RUNS)
        start = time.perf_counter()
        for _ in range(number):
            run()
        self.wait()
        return (time.perf_counter() - start) / number

    def product_speed(self, precision: str, side: int) -> float:
        """Operations per second of a product of square matrices, float32 without TF32: what `share_of_product` compares
        with."""
        kind = torch.bfloat16 if precision == machine.BF16 else torch.float32
        matrix = torch.randn(side, side, device=self.device, dtype=kind)
        torch.mm(matrix, matrix)
        return 2 * side**3 / self.seconds(lambda: torch.mm(matrix, matrix), SHORTEST_SECONDS)

    def description(self) -> dict[str, Any]:
        """What figures depend on."""
        here: dict[str, Any] = {"processor": machine.processor(), "versions": machine.versions(PACKAGES)}
        if not self.is_gpu:
            return here | {"name": "CPU"}
        properties = torch.cuda.get_device_properties(self.device)
        return here | {
            "name": properties.name,
            "memory_bytes": properties.total_memory,
            "multiprocessors": properties.multi_processor_count,
            "capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "number": torch.cuda.device_count(),
        }


WARM_UP_RUNS = 3
MOST_KERNELS = 8
LONGEST_NAME = 80


@dataclass(frozen=True)
class Form:
    """One way to compute an iteration."""

    name: str
    precision: Precision
    is_textbook: bool = False
    is_compiled: bool = False


@dataclass(frozen=True)
class Effort:
    """How long is measured."""

    seconds: float = 8.0
    """Timed runs of a form, beside those that prepare kernels."""
    product_side: int = 8192
    """Side of the square matrices whose product is compared with."""


@dataclass(frozen=True)
class Figures:
    """What was measured of one form."""

    stage: int
    size: str
    form: str
    batch_size: int
    seconds: float | None = None
    """Time of one iteration, lazy terms amortised; None where it failed."""
    memory_bytes: int | None = None
    share_of_product: float | None = None
    """Operations of its dense convolutions per second, as a share of those of a large product of matrices in the same
    precision; of ours alone."""
    kernels: tuple[tuple[str, float], ...] = ()
    """Those that lead, where they were asked for: names and shares of the time of all."""
    busy_share: float | None = None
    """Of the time of an iteration in which kernels run; the host holds it up for the rest."""
    problem: str = ""
    """Why there are no figures."""


def forms(card: Card) -> tuple[list[Form], list[Form]]:
    """The forms to compare on a card, and those that torch.compile prepares."""
    ours: list[Precision] = ["32-true", "bf16-mixed"] if len(card.precisions) > 1 else ["32-true"]
    names = {"32-true": "float32", "bf16-mixed": "bf16"}
    plain = [Form("textbook, float32", "32-true", is_textbook=True)]
    plain += [Form(f"ours, {names[precision]}", precision) for precision in ours]
    return plain, [Form(f"ours compiled, {names[ours[-1]]}", ours[-1], is_compiled=True)]


def measure_forms(card: Card, stage: Stage, size: Size, of_forms: Sequence[Form], effort: Effort) -> Iterator[Figures]:
    """Measures forms one after the other; one that fails says why. The last of ours that is not compiled is profiled as
    well."""
    for form in of_forms:
        card.forget_memory()
        start = Figures(stage, str(size), form.name, size.batch_size)
        try:
            yield _measure(card, stage, size, form, start, effort)
        except (RuntimeError, ValueError) as error:  # the other forms are worth measuring all the same
            yield replace(start, problem=f"{type(error).__name__}: {unwrapped(error)[:300]}")


def _measure(card: Card, stage: Stage, size: Size, form: Form, start: Figures, effort: Effort) -> Figures:
    if form.is_textbook:
        parts = textbook(stage, size, card.device)
    else:
        parts = parts_of(Iterations(stage, size, form.precision, card.device, form.is_compiled))
    for part in parts:
        for _ in range(WARM_UP_RUNS):
            part.run()
    total = sum(part.share * card.seconds(part.run, effort.seconds / len(parts)) for part in parts)
    figures = replace(start, seconds=total, memory_bytes=card.most_memory())
    if form.is_textbook or form.is_compiled:
        return figures
    share = operations(parts) / total / card.product_speed(form.precision, effort.product_side)
    figures = replace(figures, share_of_product=share)
    if form.precision != card.precisions[-1]:
        return figures
    kernels, busy_share = profile_kernels(card, parts[0])
    return replace(figures, kernels=kernels, busy_share=busy_share)


def operations(parts: Sequence[Part]) -> float:
    """Multiplications and additions in the dense convolutions of one iteration, lazy terms amortised."""
    return sum(part.share * count * operations_of(call) for part in parts for call, count in record(part.run).items())


def profile_kernels(card: Card, part: Part) -> tuple[tuple[tuple[str, float], ...], float]:
    """The kernels that lead, and the share of the time in which any runs; on a CPU its operators stand in."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if card.is_gpu else [])]
    with profile(activities=activities) as profiler:
        seconds = card.seconds(part.run, 0.0) * 2  # which makes two runs
    events = profiler.key_averages()
    if card.is_gpu:
        times = {e.key: e.self_device_time_total for e in events if e.device_type == DeviceType.CUDA}
    else:
        times = {e.key: e.self_cpu_time_total for e in events}
    total = max(sum(times.values()), 1e-9)
    leading = sorted(times, key=lambda name: -times[name])[:MOST_KERNELS]
    kernels = tuple((name[:LONGEST_NAME], times[name] / total) for name in leading)
    return kernels, min(total / 1e6 / seconds, 1.0)
