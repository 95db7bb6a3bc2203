"""`python -m train fit`: both stages from YAML files and options, through LightningCLI."""

import io
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentError, set_parsing_settings
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.plugins.environments import SLURMEnvironment
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from system import machine
from system.machine import keep_freed_memory
from system.plain_yaml import guard_options, read_yaml, value_problems
from train.processes.strategy import ExplicitAveraging, num_processes, strategy_for
from train.reporting.console import Reporting
from train.reporting.tracking import Tracking
from train.run.beginning import begin_or_continue, check_inputs
from train.run.checkpoints import RunCheckpoints
from train.run.data_module import FacesDataModule
from train.run.ending import ending_together
from train.run.record import only_command, recorded, settle_precision
from train.run.settings import RunSettings
from train.stages.prior import PriorTraining
from train.stages.restoration import RestorationTraining
from train.updates.parts import check_division

STAGES = (PriorTraining, RestorationTraining)
"""Imported here so that `--help` lists them as models."""

EXPLAINED = (ArgumentError, MisconfigurationException, ValueError, OSError)
"""Errors whose text is meant for users."""

TRAINER_DEFAULTS = {
    "max_epochs": 1,  # a run is one pass over its own sequence of images
    "logger": False,
    "enable_checkpointing": False,  # RunCheckpoints counts images and writes atomically
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "use_distributed_sampler": False,  # RunBatches divides the run among processes
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 1,  # Reporting decides when to log
}


class TrainingCommand(LightningCLI):
    """Adds the group `run` and ties its seed and length to model and data."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Only `fit`: evaluation and export have commands of their own."""
        return {"fit": {"model", "train_dataloaders", "val_dataloaders", "datamodule", "ckpt_path", "weights_only"}}

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds trainer, model and data, with a precision that may be left to the machine."""
        parser.add_class_arguments(
            Trainer, "trainer", fail_untyped=False, instantiate=False, sub_configs=True, skip={"precision"}
        )
        parser.set_defaults({f"trainer.{name}": value for name, value in TRAINER_DEFAULTS.items()})
        parser.add_lightning_class_args(LightningModule, "model", subclass_mode=True)
        parser.add_lightning_class_args(FacesDataModule, "data")
        parser.add_argument(
            "--trainer.precision",
            type=str | int | None,
            default=machine.AUTO,
            help="32-true, bf16-mixed, or auto: that of the run that is continued, else the fastest that this machine "
            "computes natively",
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds `run` and the links."""
        parser.add_class_arguments(RunSettings, "run")
        parser.link_arguments("run.seed", "model.init_args.computation.seed")
        parser.link_arguments("run.num_parts", "model.init_args.computation.num_parts")
        for name in ("seed", "total_images", "folder"):
            parser.link_arguments(f"run.{name}", f"data.run.{name}")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Reads options and config files; jsonargparse stumbles over some values, such as a list for a class."""
        try:
            super().parse_arguments(parser, args)
        except (TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
            raise ValueError(
                f"the configuration cannot be understood ({type(error).__name__}: {str(error)[:200]}); compare it with "
                "the files in configs/"
            ) from error

    def instantiate_classes(self) -> None:
        """Builds model, data and trainer from values that are all there."""
        config = self.config.fit
        groups: dict[str, tuple[type, Any]] = {
            "run": (RunSettings, config.run),
            "data": (FacesDataModule, config.data),
            "trainer": (Trainer, config.trainer),
        }
        stage = next((s for s in STAGES if config.model.class_path == f"{s.__module__}.{s.__name__}"), None)
        if stage is not None:
            groups["model.init_args"] = (stage, config.model.init_args)
        problems = [
            p for name, (owner, values) in groups.items() for p in value_problems(owner, values.as_dict(), name)
        ]
        if problems:
            raise ValueError("; ".join(problems))
        self.precision = settle_precision(
            config.trainer.precision, config.run.folder, config.run.overwrite, self._is_on_gpu()
        )
        config.trainer.precision = self.precision.name
        super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Builds the trainer with the run's callbacks."""
        settings = self._settings()
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = settings.tf32
        options = self.config.fit.trainer
        processes = num_processes(options, dict(os.environ))
        self._dump_config()
        progress = self.model.progress
        checkpoints = RunCheckpoints(settings, progress)
        tracking = Tracking(settings, self.config_dump, progress, checkpoints)
        reporting = Reporting(settings, progress, self.datamodule, tracking)
        validation = self.model.validation_callback(settings, reporting, checkpoints)
        self.signals = checkpoints.signals
        if options.strategy == "auto":
            kwargs["strategy"] = strategy_for(processes)
        if options.plugins is None and SLURMEnvironment.detect():
            kwargs["plugins"] = SLURMEnvironment(auto_requeue=False)  # RunCheckpoints answers SLURM's signals
        kwargs["callbacks"] = [reporting, validation, checkpoints, tracking]
        return super().instantiate_trainer(**kwargs)

    def fit(self, **_: Any) -> None:
        """Begins or continues the run in `run.folder`."""
        settings = self._settings()
        self._check_batches(settings)
        check_inputs(settings.folder, self.config_dump, settings.overwrite)
        strategy = self.trainer.strategy
        if isinstance(strategy, ExplicitAveraging):
            strategy.connect_launched_processes()
        if self.trainer.is_global_zero:
            self._warn_of_emulation()
        lock = only_command(settings.folder) if self.trainer.is_global_zero else nullcontext()
        with ending_together(strategy, self.datamodule), lock:
            self._train(settings)

    def _train(self, settings: RunSettings) -> None:
        is_first = self.trainer.is_global_zero
        start = begin_or_continue(
            settings.folder,
            self.config_dump,
            self.datamodule.description(recorded(settings.folder)["data"]) if is_first else {},
            settings.overwrite,
            is_first,
            self.trainer.world_size,
        )
        start = self.trainer.strategy.broadcast(start)  # the first process has looked before it changed anything
        if start.is_complete:
            print(
                f"{settings.folder} is complete with {start.images_seen:,} images; raise run.total_images to "
                "go on, or begin again with --run.overwrite true"
            )
            return
        self.trainer.fit(self.model, datamodule=self.datamodule, ckpt_path=start.checkpoint, weights_only=True)

    def _check_batches(self, settings: RunSettings) -> None:
        batch_size = self.datamodule.batch_size
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
                f"run.total_images must be at least one batch of {batch_size} images, got {settings.total_images}; "
                "raise it"
            )

    def _is_on_gpu(self) -> bool:
        return self.config.fit.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()

    def _warn_of_emulation(self) -> None:
        on_gpu = self._is_on_gpu()
        if self.precision.name not in machine.native_precisions(on_gpu):
            print(
                f"warning: this {'GPU' if on_gpu else 'processor'} emulates bf16: convolutions take "
                f"{machine.bf16_factor(on_gpu):.2g} times as long as with --trainer.precision {machine.FLOAT32}",
                flush=True,
            )

    def _settings(self) -> RunSettings:
        return RunSettings(**vars(self.config.fit.run))


def main() -> int:
    """Runs the command line; its exit code after SIGTERM, SIGUSR1 or Ctrl-C is 143, 138 or 130: it can be continued."""
    keep_freed_memory()
    return _command(sys.argv[1:]).signals.exit_code


def resolve(arguments: Sequence[str]) -> dict[str, Any]:
    """All options of a run, defaults included, as `--print_config` shows them; nothing is read but config files.

    Args:
        arguments: What follows `python -m train fit`.

    Raises:
        ValueError: An option or config file is wrong.
    """
    text = io.StringIO()
    with redirect_stdout(text), suppress(SystemExit):  # it prints and leaves
        _command(["fit", *arguments, "--print_config"])
    config: dict[str, Any] = yaml.safe_load(text.getvalue())
    return config


def _command(arguments: Sequence[str]) -> TrainingCommand:
    """Carries a command line out, with errors in the words of this project."""
    quiet_lightning()
    guard_options()
    check_configs(arguments)
    set_parsing_settings(docstring_parse_attribute_docstrings=True)  # --help describes the fields of dataclasses
    try:
        return TrainingCommand(
            LightningModule,
            FacesDataModule,
            subclass_mode_model=True,
            save_config_callback=None,
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_kwargs={"prog": "python -m train", "exit_on_error": False, "fit": {"exit_on_error": False}},
            args=list(arguments),
        )
    except (ArgumentError, MisconfigurationException, ValueError) as error:
        problem = _plain(error)
        if problem is error:
            raise
        raise problem from None


def check_configs(arguments: Sequence[str]) -> None:
    """Refuses config files that are no plain YAML by their names, which jsonargparse leaves out.

    Raises:
        ValueError: A file is no YAML, or is too large.
    """
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        option, _, value = argument.partition("=")
        path = Path(value or following)
        if option in ("--config", "-c") and path.is_file():
            read_yaml(path)


def _plain(error: Exception) -> BaseException:
    """An error without jsonargparse's words about the alternative to a model and PyTorch's about its workers."""
    chain: list[BaseException] = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    about_ours = (e for e in chain if "pytorch_lightning.core.module.LightningModule'>" not in str(e))
    problem = next((e for e in about_ours if isinstance(e, EXPLAINED)), error)
    if "DataLoader worker process" in str(problem).partition("\n")[0]:  # a traceback, the message at its end
        return ValueError(str(problem).rpartition(f"\n{type(problem).__name__}: ")[2].rstrip())
    if isinstance(problem, ArgumentError | MisconfigurationException):
        return ValueError(str(problem))
    return problem


def quiet_lightning() -> None:
    """Silences advice that does not apply: runs resume by themselves, and our loaders are sized by the user."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (
        ".*args parameter is intended.*",
        ".*does not have many workers.*",
        ".*lr_scheduler.step.*",
        ".*LeafSpec.*",
        ".*num_workers.*",
    ):
        warnings.filterwarnings("ignore", message)
