"""Several processes: how they start without Lightning's wrapper, share values, and end together on a signal."""

import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed
from pytorch_lightning import Trainer
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy, Strategy
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
from torch import Tensor

from system.child_processes import ENDING_SIGNALS, SECONDS_TO_END, take_signals
from train.processes.peer_watch import PeerWatch


class ExplicitAveraging(DDPStrategy):
    """Starts processes as DDP does, but leaves gradients alone: `train.updates.optimization.update` averages them.

    Lightning's DDP wraps both networks in one reducer, which fails on losses that reach only one of them
    (Lightning issue 20866) and cannot follow a gradient penalty's double backward.
    """

    watch: PeerWatch | None = None
    _children: "list[subprocess.Popen[bytes]]" = []

    def setup_distributed(self) -> None:
        """Connects the processes, once, for collectives and for the watch over each other."""
        if self.watch is not None:
            return
        super().setup_distributed()
        launcher: Any = self.launcher
        self._children = list(launcher.procs) if isinstance(launcher, _SubprocessScriptLauncher) else []
        if self._children:
            launcher.procs.clear()  # whose observer would kill this process without a word
        assert self.cluster_environment is not None  # Lightning chose one
        address = self.cluster_environment.main_address
        self.watch = PeerWatch(self.global_rank, self.world_size, address, self.broadcast, self._children)

    def connect_launched_processes(self) -> None:
        """Connects what torchrun or SLURM has started at once; processes that this one starts come with training."""
        if not isinstance(self.cluster_environment, LightningEnvironment):
            self.setup_environment()

    def end_processes(self) -> None:
        """Ends watch and collectives after work that went well, and waits for the processes that this one started.

        Left to the end of the interpreter, the threads of gloo may wait for Python's lock while it waits for them
        (PyTorch's issue 190489): a process that has done its work would never end.
        """
        if self.watch is None:
            return
        self.barrier()  # nobody's connections are closed before all have what was sent
        self.watch.stop()
        torch.distributed.destroy_process_group()
        for rank, child in enumerate(self._children, 1):
            try:
                child.wait(SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                child.kill()
                print(f"warning: process {rank} had done its work but did not end; it was killed", flush=True)

    def configure_ddp(self) -> None:
        """Wraps nothing; the processes start from equal weights because these depend on the seed alone."""


def strategy_for(num_processes: int) -> Strategy | str:
    """The strategy for so many processes; a single one needs none."""
    return ExplicitAveraging() if num_processes > 1 else "auto"


def num_processes(
    devices: int | Sequence[int], accelerator: str, num_nodes: int, environment: Mapping[str, str]
) -> int:
    """How many processes a run will have: `devices` (their number on each machine, -1 for one on every GPU, or GPUs by
    index) on all nodes, or what the environment says that a launcher has started."""
    launched = int(environment.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in environment else 1
    slurm = int(environment.get("SLURM_NTASKS", "1")) if "SLURM_JOB_NAME" in environment else 1
    if slurm > 1 and environment.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        return slurm
    if devices == -1:
        on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
        devices = torch.cuda.device_count() if on_gpu else 1
    per_node = devices if isinstance(devices, int) else len(devices)
    return max(launched, per_node * num_nodes)


def rank_and_count() -> tuple[int, int]:
    """Number of this process and how many there are."""
    if not torch.distributed.is_initialized():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def wait_for_processes() -> None:
    """Returns once all processes are here."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def average_over_processes(value: Tensor) -> Tensor:
    """Mean of a tensor over all processes, the tensor itself where there is one; may change it in place."""
    num_processes = rank_and_count()[1]
    if num_processes > 1:
        torch.distributed.all_reduce(value)
        value = value / num_processes
    return value


def gather_from_processes(value: Tensor) -> Tensor:
    """Stacks the tensors of all processes by rank, [processes, ...]."""
    num_processes = rank_and_count()[1]
    if num_processes == 1:
        return value[None]
    values = [torch.empty_like(value) for _ in range(num_processes)]
    torch.distributed.all_gather(values, value)
    return torch.stack(values)


OUT_OF_TIME_CODE = 75
"""A run ends with it after `run.max_minutes`: try again later (EX_TEMPFAIL of sysexits.h)."""
ITERATIONS_BETWEEN_QUESTIONS = 16


class EndingSignals:
    """Remembers until the iteration is over that a run has to end: by a signal or since `max_minutes` are over."""

    def __init__(self, max_minutes: float | None = None) -> None:
        self._deadline = float("inf") if max_minutes is None else time.monotonic() + 60 * max_minutes
        self.exit_code = 0
        """0, 75 where the time is over, or 128 + the number of the signal that ends the run early."""

    def listen(self) -> None:
        """Takes the signals over from Python; Ctrl-C twice still interrupts at once."""
        take_signals(self._receive)

    def should_end(self, trainer: Trainer, iteration: int) -> bool:
        """Tells whether a process got a signal; several ask each other now and then, as that waits for the GPU."""
        if trainer.world_size > 1 and iteration % ITERATIONS_BETWEEN_QUESTIONS:
            return False
        if not self.exit_code and time.monotonic() > self._deadline:
            self._end("run.max_minutes are over; ", OUT_OF_TIME_CODE)
        if trainer.world_size > 1:
            own = torch.tensor(float(self.exit_code), device=trainer.strategy.root_device)
            self.exit_code = int(trainer.strategy.reduce(own, reduce_op="max")) or self.exit_code
        return self.exit_code > 0

    def _receive(self, number: int, frame: object) -> None:
        if number == signal.SIGINT and self.exit_code == 128 + number:  # the user insists
            raise KeyboardInterrupt
        if not self.exit_code:
            self._end("", 128 + number)

    def _end(self, reason: str, code: int) -> None:
        self.exit_code = code
        print(f"\n{reason}ending after this iteration; the same command continues the run", flush=True)


def leave_signals_to_the_run(worker: int) -> None:
    """Lets a worker go on when all processes get a signal, as from Ctrl-C or a scheduler: the run ends in order."""
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
