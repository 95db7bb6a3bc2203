"""A run put together, and how it ends: an error of one process reaches the others, a lost one is named in one line."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed
from jsonargparse import Namespace
from pytorch_lightning import Trainer
from pytorch_lightning.plugins.environments import SLURMEnvironment
from pytorch_lightning.strategies import Strategy
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from data.faces.files import print_left_out
from models.files.run_folder import latest_checkpoint, recorded
from system import machine
from system.command_line import exit_code_of, print_names
from system.wording import counted, unwrapped
from train.options import TrainerOptions
from train.processes.strategy import OUT_OF_TIME_CODE, ExplicitAveraging, num_processes, strategy_for
from train.reporting.console import Reporting
from train.reporting.tracking import Tracking
from train.run.beginning import begin_or_continue, check_inputs
from train.run.checkpoints import RunCheckpoints
from train.run.data_module import LOADER_TIMEOUT_SECONDS, FacesDataModule
from train.run.record import kept_formulations, only_command, settle_precision
from train.run.settings import RunSettings, has_all_images
from train.stages.prior import PriorTraining

SILENCED = (
    ".*does not have many workers.*",  # data.num_workers is the user's choice
    ".*suggested max number of worker.*",  # the same, from PyTorch
    ".*lr_scheduler.step.*",  # there is none
    ".*LeafSpec.*",  # between Lightning and PyTorch
)
"""Warnings of libraries that say nothing about a run."""


class Training:
    """A run that is ready to begin or to go on: what its options stand for, and the same as plain values for
    config.yaml. Raises ValueError where machine or faces cannot do what is asked."""

    def __init__(self, objects: Namespace, config: dict[str, Any]) -> None:
        machine.keep_freed_memory()
        quiet_libraries()
        self.settings: RunSettings = objects.run
        self.options: TrainerOptions = objects.trainer
        self.model: Any = objects.model.init_args
        self.config = config
        self.is_on_gpu = self.options.on_gpus(torch.cuda.device_count())
        self.precision = settle_precision(
            self.options.precision, self.settings.folder, self.settings.overwrite, self.is_on_gpu
        )
        self.config["trainer"]["precision"] = self.precision.name
        if isinstance(self.model, PriorTraining) and (objects.data.degraded or objects.data.real_faces):
            raise ValueError("data.degraded and data.real_faces belong to stage 2: a prior learns from faces alone")
        self.data = FacesDataModule(objects.data, self.settings)
        self.trainer = self._trainer()

    def _trainer(self) -> Trainer:
        settings, options, progress = self.settings, self.options, self.model.progress
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = settings.tf32
        checkpoints = RunCheckpoints(settings, progress)
        tracking = Tracking(settings, self.config, progress, checkpoints)
        reporting = Reporting(settings, progress, self.data, tracking)
        validation = self.model.validation_callback(reporting)
        self.signals = checkpoints.signals
        try:
            return Trainer(
                accelerator=options.accelerator if self.is_on_gpu else "cpu",
                devices=options.chosen_devices if self.is_on_gpu else self._cpu_processes(),
                num_nodes=options.num_nodes,
                precision=self.precision.name,  # type: ignore[arg-type]
                deterministic=options.deterministic,
                benchmark=options.benchmark,
                detect_anomaly=options.detect_anomaly,
                profiler=options.profiler,
                strategy=strategy_for(
                    num_processes(options.chosen_devices, options.accelerator, options.num_nodes, os.environ)
                ),
                # RunCheckpoints answers SLURM's signals
                plugins=SLURMEnvironment(auto_requeue=False) if SLURMEnvironment.detect() else None,
                callbacks=[reporting, validation, checkpoints, tracking],
                max_epochs=1,  # a run is one pass over its own sequence of images
                logger=False,
                enable_checkpointing=False,  # RunCheckpoints counts images and writes atomically
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,  # RunBatches divides the run among processes
                num_sanity_val_steps=0,
                log_every_n_steps=1,  # Reporting decides when to log
            )
        except MisconfigurationException as error:
            raise ValueError(f"trainer: {error}") from error

    def _cpu_processes(self) -> int:
        devices = self.options.chosen_devices
        return max(1, devices) if isinstance(devices, int) else len(devices)

    def fit(self) -> int:
        """Begins or continues the run in `run.folder`; returns 0 where it is complete, else the exit code that says
        what ended it."""
        self._check_batches()
        settings, strategy, is_first = self.settings, self.trainer.strategy, self.trainer.is_global_zero
        check_inputs(settings.folder, self.config, settings.overwrite)
        if isinstance(strategy, ExplicitAveraging):
            strategy.connect_launched_processes()
        if is_first:
            self._print_data_and_precision()
        lock = only_command(settings.folder) if is_first else nullcontext()
        try:
            with ending_together(strategy, self.data), lock:
                return self._train()
        except (ValueError, MisconfigurationException) as error:
            raise ValueError(_own_words(error)) from error

    def _train(self) -> int:
        settings, is_first = self.settings, self.trainer.is_global_zero
        start = begin_or_continue(
            settings.folder,
            self.config,
            self.data.description(recorded(settings.folder)["data"]) if is_first else {},
            settings.overwrite,
            is_first,
            self.trainer.world_size,
        )
        start = self.trainer.strategy.broadcast(start)  # the first process has looked before it changed anything
        if start.is_complete:
            print_names(
                f"{settings.folder} is complete with {start.images_seen:,} images; raise run.total_images to "
                "go on, or begin again with --run.overwrite true"
            )
            return 0
        with kept_formulations(settings, self.trainer.strategy):
            self.trainer.fit(self.model, datamodule=self.data, ckpt_path=start.checkpoint, weights_only=True)
        progress, code = self.model.progress, self.signals.exit_code
        is_complete = has_all_images(progress.images_seen, self.data.batch_size, settings.total_images)
        if is_complete and is_first:
            last = latest_checkpoint(settings.folder)
            print_names(f"{settings.folder} is complete with {progress.images_seen:,} images; last checkpoint: {last}")
        return 0 if is_complete and code == OUT_OF_TIME_CODE else code

    def _check_batches(self) -> None:
        settings, batch_size = self.settings, self.data.batch_size
        regularization = self.model.stage.regularization
        check_division(
            batch_size,
            self.trainer.world_size,
            settings.num_parts,
            self.model.discriminator.minibatch_group_size,
            regularization.path_length_batch_shrink if regularization.path_length_interval else 1,
        )
        if settings.total_images < batch_size:
            raise ValueError(
                f"run.total_images must be at least one batch, {counted(batch_size, 'image')}, got "
                f"{settings.total_images}; raise it"
            )

    def _print_data_and_precision(self) -> None:
        """Says what is trained on, before the contents of all files are looked at, and in which precision."""
        print_names(f"faces: {self.data.photographs.describe()}")
        print_left_out(*self.data.photographs.all_sets())
        name, fastest = self.precision.name, machine.fastest_precision(self.is_on_gpu)
        reason = fastest.reason if fastest.name == name else f"{fastest.name} is fastest here: {fastest.reason}"
        print(f"precision: {name} ({reason})", flush=True)
        if name not in machine.native_precisions(self.is_on_gpu):
            print(
                f"warning: this {'GPU' if self.is_on_gpu else 'processor'} emulates bf16: convolutions take "
                f"{machine.bf16_factor(self.is_on_gpu):.2g} times as long as with --trainer.precision "
                f"{machine.FLOAT32}",
                flush=True,
            )


def _own_words(error: Exception) -> str:
    """The text of an error; of one of a loader's worker, which holds a whole traceback, the message at its end."""
    text = str(error)
    if "DataLoader worker process" in text.partition("\n")[0]:
        return text.rpartition(f"\n{type(error).__name__}: ")[2].rstrip()
    return text


def quiet_libraries() -> None:
    """Silences advice that does not apply to runs."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in SILENCED:
        warnings.filterwarnings("ignore", message)


CONTINUE = "the same command continues from the last checkpoint"


@contextmanager
def ending_together(strategy: Strategy, data: FacesDataModule) -> Iterator[None]:
    """Inside, an error of this process ends the other processes of the run, and the workers of its data, too. Raises
    ChildProcessError where a worker or a process of the run was lost."""
    try:
        yield
    except BaseException as error:
        watch = strategy.watch if isinstance(strategy, ExplicitAveraging) else None
        has_hung = data.loader is not None and data.loader.has_hung
        problem = plain_problem(RuntimeError("DataLoader timed out") if has_hung else error, data)
        if watch is not None:
            if _is_of_a_collective(error):
                watch.wait_for_reason()  # which ends this process if it finds one
            watch.fail(str(problem) or type(problem).__name__, exit_code_of(problem))
        if problem is error:
            raise
        raise problem from None
    finally:
        data.end_workers()
    if isinstance(strategy, ExplicitAveraging):
        strategy.end_processes()


def plain_problem(error: BaseException, data: FacesDataModule) -> BaseException:
    """What an error of PyTorch about lost processes means; files that workers died of are noted as broken."""
    text = unwrapped(error)
    has_hung, has_died = "DataLoader timed out" in text, "DataLoader worker (pid" in text
    if isinstance(error, RuntimeError) and (has_hung or has_died):
        reading, how = f" while reading {', '.join(data.being_read()[:4]) or 'nothing'}", data.lost_worker()
        try:
            deadly = data.note_deadly_faces()
        except (ValueError, OSError) as problem:  # too many broken faces
            return problem
        go_on = CONTINUE
        if deadly:
            go_on = f"{', '.join(deadly)} does so by itself and is noted in {data.broken.report}; {CONTINUE} without it"
        if has_hung:
            return ChildProcessError(
                f"no photographs arrived for {LOADER_TIMEOUT_SECONDS} seconds{reading}: a worker of the data loader "
                f"hangs or the storage of --data.faces does not answer; {go_on}"
            )
        return ChildProcessError(
            f"a worker of the data loader died{reading} ({how or text.partition('. ')[0]}); if memory ran out lower "
            f"--data.num_workers or --data.cache_mebibytes; {go_on}"
        )
    if _is_of_a_collective(error):
        return ChildProcessError(f"the connection to another process of the run failed ({text[:200]}); {CONTINUE}")
    return error


def _is_of_a_collective(error: BaseException) -> bool:
    is_dist_error = isinstance(error, torch.distributed.DistError)
    return is_dist_error or (isinstance(error, RuntimeError) and "gloo" in str(error))


def check_division(
    batch_size: int, num_processes: int, num_parts: int, minibatch_group_size: int | None, path_length_shrink: int
) -> None:
    """Raises ValueError, with advice, unless a batch means the same however it is divided.

    Minibatch groups (None: the whole batch) and the images of the path length (one of `path_length_shrink`) are chosen
    by their position in the batch of all processes, so each part has to hold whole groups and whole shares.
    """
    number = num_processes * num_parts
    if batch_size < 1 or batch_size % number:
        raise ValueError(
            f"the batch size must be divisible by the number of processes times run.num_parts, got "
            f"{counted(batch_size, 'image')} for {counted(num_processes, 'process')} with "
            f"{counted(num_parts, 'part')} each; change one of them"
        )
    size = batch_size // number
    group = min(minibatch_group_size or batch_size, batch_size)
    if size % group:
        given = "null, the whole batch" if minibatch_group_size is None else minibatch_group_size
        raise ValueError(
            f"each part of a batch must hold whole minibatch groups, but {counted(batch_size, 'image')} on "
            f"{counted(num_processes, 'process')} with {counted(num_parts, 'part')} are {size} a part, which cannot be "
            f"divided into groups of {group} (minibatch_group_size {given}); give a smaller group, a larger batch or "
            "fewer parts"
        )
    if number > 1 and size % path_length_shrink:
        raise ValueError(
            f"each part of a batch must be a multiple of path_length_batch_shrink {path_length_shrink}, got "
            f"{counted(size, 'image')} a part; change it, or use a larger batch or fewer parts"
        )
