"""The device that is checked, its clock and its memory."""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from system import machine

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
        """Of training, that it computes in its own units; of a CPU float32 alone."""
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
        """Seconds of one run, as a mean over as many as fit.

        Args:
            run: Work that was done before, so that its kernels are there.
            limit: Seconds for all runs; two are made at least.
        """
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
        """Operations per second of a product of square matrices: what `share_of_product` compares with.

        Args:
            precision: As Lightning names it; float32 without TF32.
            side: Of the matrices.
        """
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
