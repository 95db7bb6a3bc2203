"""What a user sees of a run: a line or a bar with loss terms, speed and time left, and a table."""

import resource
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from system import machine
from system.command_line import print_names
from system.live_progress import duration, live_progress
from system.wording import counted
from train.processes.strategy import average_over_processes
from train.reporting.tracking import CsvLog, Tracking
from train.run.checkpoints import dump_non_finite
from train.run.data_module import FacesDataModule
from train.run.progress import Divergence, Progress, Skipped
from train.run.settings import RunSettings, last_kept_row

LARGEST_LOADER_SHARE = 0.2
"""Share of the time spent waiting for photographs above which the loader is named as the cause."""
SECONDS_TO_FIRST_LINE, SECONDS_BETWEEN_LINES = 8.0, 60.0
"""Without a bar a line with the time left comes at least so often, at the end of an iteration."""


class Reporting(Callback):
    """Reads the meters every so many images and hands them to console, train.csv and the trackers."""

    def __init__(self, settings: RunSettings, progress: Progress, data: FacesDataModule, tracking: Tracking) -> None:
        self.settings = settings
        self.progress = progress
        self.data = data
        self.tracking = tracking
        self._bar: Bar | None = None
        self._since = (0.0, 0.0, 0)
        """When the last row was reported, seconds of pauses until then, images seen."""
        self._waited_seconds = 0.0
        self._substituted = 0.0  # images of this process since the last row that stand in for broken files
        self._is_held_up = False
        self._divergence = Divergence(settings.max_skipped_updates, data.batch_size)
        self._log: CsvLog | None = None
        self._shown = 0.0  # when the last line was printed
        self._terms = ""  # of the last row, for the bar
        self._device: torch.device | None = None
        self._first_iteration = ExitStack()  # while it takes, lines say for how long

    def state_dict(self) -> dict[str, float]:
        """What this callback has counted since the last row, shared evenly among the processes."""
        return {"substituted": average_over_processes(torch.tensor(self._substituted, device=self._device)).item()}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Takes back `state_dict`."""
        self._substituted = state_dict["substituted"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the log and the bar, and says what begins."""
        images_seen = self.progress.images_seen
        self._since = (time.perf_counter(), self.progress.paused_seconds, images_seen)
        self._device = pl_module.device
        self.progress.to(self._device)
        if not trainer.is_global_zero:
            return
        last = last_kept_row(images_seen, self.data.batch_size, self.settings.log_every_images)
        self._log = CsvLog(self.settings.folder / "train.csv", last)
        self._print_start(trainer, pl_module)
        if sys.stdout.isatty():
            counted = TextColumn("{task.completed:,.0f} of {task.total:,.0f} images {task.description}")
            self._bar = Bar(BarColumn(), counted)
            self._bar.start()
            self._bar.add_task("", total=self.settings.total_images, completed=images_seen)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Says so while the first iteration takes long."""
        if batch_idx == 0 and trainer.is_global_zero:
            self._first_iteration.enter_context(live_progress("first iteration", as_lines=True))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Reports if a multiple of `log_every_images` was passed, and at the end of the run."""
        self._first_iteration.close()
        self._substituted += batch.num_substituted
        if self.progress.has_passed(self.settings.log_every_images):
            self._report(trainer)
            self._substituted = 0.0
        elif self.progress.is_due(self.settings.log_every_images, self.settings.total_images):
            with self.progress.unread():  # a run that is made longer later goes on as if it had not ended here
                self._report(trainer)
        else:
            self._show_between_rows(self.progress.images_seen)

    def _report(self, trainer: Trainer) -> None:
        images_seen = self.progress.images_seen
        skipped = self.progress.skipped.read()  # here and in the next line alone training waits for the device
        values = self.progress.meters.read() | self.progress.in_force | self._host_values(trainer, images_seen)
        values |= {f"{network}/skipped": float(len(updates.images_seen)) for network, updates in skipped.items()}
        self.tracking.log_row(values, images_seen)
        if self._log is not None:
            self._log.append(images_seen, values)
            self._show(images_seen, values)
            self._name_cause(values["speed/loader_share"])
        dump_non_finite(self.settings.folder, trainer, skipped, images_seen)
        words = self._divergence.look(values, images_seen)
        if words and trainer.is_global_zero:
            print(words, flush=True)
        self._stop_if_broken(skipped)

    def _host_values(self, trainer: Trainer, images_seen: int) -> dict[str, float]:
        """Speed, memory and data errors: means over the processes, where they differ."""
        assert self.data.loader is not None  # there was a batch
        waited_seconds = self.data.loader.waited_seconds
        seconds = self._seconds_since_row()
        speed = (images_seen - self._since[2]) / seconds
        values = {
            "speed/images_per_second": speed,
            "speed/seconds_left": (self.settings.total_images - images_seen) / speed,
            "speed/loader_share": min((waited_seconds - self._waited_seconds) / seconds, 1.0),
            "memory/host_peak_gibibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            "data/broken_files": float(self.data.broken.count()),
            "data/substituted": self._substituted * trainer.world_size,
        }
        if torch.cuda.is_available():
            values["memory/device_peak_gibibytes"] = torch.cuda.max_memory_allocated() / 2**30
        self._since = (time.perf_counter(), self.progress.paused_seconds, images_seen)
        self._waited_seconds = waited_seconds
        means = average_over_processes(torch.tensor(list(values.values()), device=trainer.strategy.root_device))
        return dict(zip(values, means.tolist(), strict=True))

    def _seconds_since_row(self) -> float:
        since, paused_before, _ = self._since
        return max((time.perf_counter() - since) - (self.progress.paused_seconds - paused_before), 1e-9)

    def _print_start(self, trainer: Trainer, module: LightningModule) -> None:
        device = trainer.strategy.root_device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else machine.processor()
        networks = ("generator", "discriminator")
        sizes = [f"{n} {sum(p.numel() for p in module.get_submodule(n).parameters()):,}" for n in networks]
        images_seen = self.progress.images_seen
        threads, processes = torch.get_num_threads(), trainer.world_size
        place = f"{'continues' if images_seen else 'begins'} at image {images_seen:,} of {self.settings.total_images:,}"
        print_names(
            f"device: {name}, {counted(processes, 'process')}, {counted(threads, 'thread')}",
            f"parameters: {', '.join(sizes)}",
            f"run: {self.settings.folder} {place}{f' from {trainer.ckpt_path}' if images_seen else ''}",
        )
        self._shown = time.perf_counter() - SECONDS_BETWEEN_LINES + SECONDS_TO_FIRST_LINE

    def _show_between_rows(self, images_seen: int) -> None:
        """Keeps the bar, or now and then a line, up to date where rows are far apart."""
        if self._log is None or (self._bar is None and time.perf_counter() - self._shown < SECONDS_BETWEEN_LINES):
            return
        speed = (images_seen - self._since[2]) / self._seconds_since_row()
        self._print_progress(images_seen, "", speed, (self.settings.total_images - images_seen) / speed)

    def _name_cause(self, loader_share: float) -> None:
        """Says once that the loader holds training up, and again when it does so after a while."""
        was_held_up, self._is_held_up = self._is_held_up, loader_share > LARGEST_LOADER_SHARE
        if self._is_held_up and not was_held_up:
            print(
                f"the loader holds training up: {loader_share:.0%} of the time went into waiting for photographs; "
                f"raise --data.num_workers (now {self.data.num_workers}) or --data.cache_mebibytes, or store "
                "smaller files nearer by",
                flush=True,
            )

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Closes the bar."""
        self._first_iteration.close()
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _show(self, images_seen: int, values: dict[str, float]) -> None:
        terms = "  ".join(f"{short_name(n)} {v:.3g}" for n, v in values.items() if _is_shown(n)) + "  "
        self._print_progress(images_seen, terms, values["speed/images_per_second"], values["speed/seconds_left"])

    def _print_progress(self, images_seen: int, terms: str, speed: float, seconds_left: float) -> None:
        self._shown = time.perf_counter()
        self._terms = terms or self._terms
        line = f"{speed:.1f} images/s  {duration(seconds_left)} left"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=images_seen, description=self._terms + line)
        else:
            print(f"{images_seen:>11,} of {self.settings.total_images:,} images  {terms}{line}", flush=True)

    def _stop_if_broken(self, skipped: Mapping[str, Skipped]) -> None:
        for network, updates in skipped.items():
            if updates.longest_row >= self.settings.max_skipped_updates:
                raise ValueError(
                    f"{updates.longest_row} updates of the {network} in a row were skipped (run.max_skipped_updates is "
                    f"{self.settings.max_skipped_updates}): loss or gradient not finite; lower the learning rates, or "
                    "continue from an earlier checkpoint in float32"
                )


def _is_shown(name: str) -> bool:
    return name.startswith(("generator/", "discriminator/")) and not name.endswith(("gradient_norm", "skipped"))


def short_name(name: str) -> str:
    """generator/adversarial becomes G.adversarial."""
    network, term = name.split("/", 1)
    return f"{network[0].upper()}.{term}"
