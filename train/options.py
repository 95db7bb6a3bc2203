"""Options of Lightning's Trainer: those that a run obeys, and why every other one is refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from system import machine
from system.wording import counted

MOST_PROCESSES = 64
"""More on one machine without GPUs are a slip of the keyboard."""
ONE_PASS = "a run is one pass over its own sequence of images, run.total_images long"
RHYTHM = "run.validate_every_images is the rhythm of validation"
VALIDATION = "validation uses every held-out face: data.num_validation_faces"
OWN_CONSOLE = "run.log_every_images is the rhythm of rows and of the line on the console"
REFUSED: dict[str, tuple[Any, str]] = {
    "strategy": ("auto", "it follows from trainer.devices and trainer.num_nodes"),
    "logger": (None, "choose trackers by run.wandb and run.tensorboard"),
    "callbacks": (None, "a run has its own, so that it continues bit for bit"),
    "fast_dev_run": (False, "try a run by a small run.total_images"),
    "max_epochs": (None, ONE_PASS),
    "min_epochs": (None, ONE_PASS),
    "max_steps": (-1, ONE_PASS),
    "min_steps": (None, ONE_PASS),
    "max_time": (None, "use run.max_minutes, which saves and can be continued"),
    "limit_train_batches": (None, ONE_PASS),
    "limit_val_batches": (None, VALIDATION),
    "limit_test_batches": (None, VALIDATION),
    "limit_predict_batches": (None, VALIDATION),
    "overfit_batches": (0.0, "give a folder with few faces as data.faces"),
    "val_check_interval": (None, RHYTHM),
    "check_val_every_n_epoch": (1, RHYTHM),
    "num_sanity_val_steps": (None, RHYTHM),
    "log_every_n_steps": (None, OWN_CONSOLE),
    "enable_checkpointing": (None, "use run.checkpoint_every_images and run.keep_checkpoints"),
    "enable_progress_bar": (None, OWN_CONSOLE),
    "enable_model_summary": (None, "the start of a run names its networks"),
    "accumulate_grad_batches": (1, "use run.num_parts: the same batch in parts"),
    "gradient_clip_val": (None, "use model.init_args.optimization.clip_norm.generator and .discriminator"),
    "gradient_clip_algorithm": (None, "gradients are clipped by norm: model.init_args.optimization.clip_norm"),
    "inference_mode": (True, RHYTHM),
    "use_distributed_sampler": (True, "a run divides its images among processes itself"),
    "barebones": (False, "use `python -m scripts.benchmark` for times without overhead"),
    "plugins": (None, "trainer.precision and the launcher's variables choose them"),
    "sync_batchnorm": (False, "the networks have no batch normalisation"),
    "reload_dataloaders_every_n_epochs": (0, ONE_PASS),
    "default_root_dir": (None, "use run.folder"),
    "enable_autolog_hparams": (True, "config.yaml in run.folder names every option"),
    "model_registry": (None, "use run.wandb_checkpoints"),
}
"""Lightning's default and what to do instead, by the name of the option."""


@dataclass(frozen=True)
class TrainerOptions:
    """Where a run computes: the options of Lightning's Trainer that it obeys."""

    accelerator: Literal["auto", "cpu", "gpu", "cuda"] = "auto"
    """auto takes GPUs where there are some."""
    devices: int | tuple[int, ...] | str = "auto"
    """Processes on this machine, one per GPU: their number, GPUs by index such as [0,1], or auto for all GPUs."""
    num_nodes: int = 1
    """Machines, each started by a launcher (docs/launching.md)."""
    precision: str = machine.AUTO
    """32-true, bf16-mixed, or auto: that of the run that is continued, else the fastest that this machine computes
    natively."""
    deterministic: bool | Literal["warn"] | None = None
    """Refuse (or warn of) operations whose sums come in no fixed order on GPUs."""
    benchmark: bool | None = None
    """Let cuDNN choose convolutions by trying them."""
    detect_anomaly: bool = False
    """Name the operation whose gradient is not finite; slow."""
    profiler: Literal["simple", "advanced", "pytorch"] | None = None
    """Print where time goes at the end."""

    def __post_init__(self) -> None:
        if self.num_nodes < 1:
            raise ValueError(f"trainer.num_nodes must be at least 1, got {self.num_nodes}")
        devices = self.chosen_devices
        is_number = isinstance(devices, int) and (devices == -1 or 1 <= devices <= MOST_PROCESSES)
        is_list = isinstance(devices, list) and devices and min(devices) >= 0 and len(set(devices)) == len(devices)
        if not is_number and not is_list:
            raise ValueError(
                f"trainer.devices must be auto, a number from 1 to {MOST_PROCESSES} or a list of different GPUs such "
                f"as [0,1], got {self.devices}"
            )

    @property
    def chosen_devices(self) -> int | list[int]:
        """`devices` without text: "0,1" and "2," are GPUs by index as for Lightning, auto is -1, all of them."""
        if isinstance(self.devices, int):
            return self.devices
        if isinstance(self.devices, tuple | list):
            return list(self.devices)
        try:
            if "," in self.devices:
                return [int(index) for index in self.devices.split(",") if index.strip()]
            return -1 if self.devices == "auto" else int(self.devices)
        except ValueError:
            return 0  # no device

    def on_gpus(self, num_gpus: int) -> bool:
        """Whether a run computes on GPUs, of which this machine has so many; ValueError where more is asked for than it
        has."""
        devices, is_gpu = self.chosen_devices, self.accelerator != "cpu" and num_gpus > 0
        if self.accelerator in ("gpu", "cuda") and not num_gpus:
            raise ValueError(
                "trainer.accelerator must be auto or cpu on this machine, which has no GPU that torch can use"
            )
        if not is_gpu and (isinstance(devices, list) or self.devices in (-1, "-1")):
            raise ValueError(f"trainer.devices must be a number of processes where no GPU is used, got {self.devices}")
        num_needed = max(devices) + 1 if isinstance(devices, list) else devices
        if is_gpu and num_needed > num_gpus:
            raise ValueError(
                f"trainer.devices must be within the {counted(num_gpus, 'GPU')} of this machine, got {self.devices}"
            )
        return is_gpu


def check_refused(values: Mapping[str, Any]) -> None:
    """Raises ValueError, with what to do instead, unless the refused options of Lightning's Trainer are at their
    defaults."""
    problems = [
        f"trainer.{name} is not obeyed: {instead}"
        for name, (default, instead) in REFUSED.items()
        if name in values and values[name] != default
    ]
    if problems:
        raise ValueError("; ".join(problems))
