"""`python -m train fit`: both stages from YAML files and options, through LightningCLI."""

import logging
import os
import sys
import warnings
from hashlib import sha256
from typing import Any

from jsonargparse import ArgumentError, set_parsing_settings
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from train.data_module import FacesDataModule
from train.memory import keep_freed_memory
from train.parts import check_division
from train.prior_training import PriorTraining
from train.reporting import Reporting
from train.restoration_training import RestorationTraining
from train.run_checkpoints import RunCheckpoints, images_of, latest_checkpoint
from train.run_record import record_run
from train.settings import RunSettings
from train.strategy import num_processes, strategy_for

STAGES = (PriorTraining, RestorationTraining)
"""Imported here so that `--help` lists them as models."""

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

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds `run` and the links."""
        parser.add_class_arguments(RunSettings, "run")
        parser.link_arguments("run.seed", "model.init_args.seed")
        parser.link_arguments("run.seed", "data.seed")
        parser.link_arguments("run.num_parts", "model.init_args.num_parts")
        parser.link_arguments("run.total_images", "data.total_images")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Builds the trainer with the run's callbacks and trackers."""
        settings = self._settings()
        options = self.config.fit.trainer
        batch_size = self.config.fit.data.batch_size
        processes = num_processes(options, dict(os.environ))
        reporting = Reporting(settings, batch_size)
        checkpoints = RunCheckpoints(settings, batch_size)
        validation = self.model.validation_callback(settings, batch_size, reporting, checkpoints)
        self.checkpoints = checkpoints
        if options.strategy == "auto":
            kwargs["strategy"] = strategy_for(processes)
        kwargs["logger"] = trackers(settings) or False
        kwargs["callbacks"] = [reporting, validation, checkpoints]
        return super().instantiate_trainer(**kwargs)

    def fit(self, **_: Any) -> None:
        """Begins or continues the run in `run.folder`."""
        settings = self._settings()
        if settings.total_images < self.datamodule.batch_size:
            raise ValueError(
                f"run.total_images must be at least one batch of {self.datamodule.batch_size} images, "
                f"got {settings.total_images}; raise it"
            )
        shrink = self.model.regularization.path_length_batch_shrink
        check_division(
            self.datamodule.batch_size,
            self.trainer.world_size,
            settings.num_parts,
            self.model.discriminator.minibatch_group_size,
            shrink if self.model.regularization.path_length_interval else 1,
        )
        self._dump_config()
        record_run(settings.folder, self.config_dump, self.datamodule.description())
        checkpoint = latest_checkpoint(settings.folder)
        if checkpoint is not None and images_of(checkpoint) + self.datamodule.batch_size > settings.total_images:
            print(
                f"{settings.folder} is complete with {images_of(checkpoint):,} images; raise run.total_images to go on"
            )
            return
        self.trainer.fit(self.model, datamodule=self.datamodule, ckpt_path=checkpoint, weights_only=True)

    def _settings(self) -> RunSettings:
        return RunSettings(**vars(self.config.fit.run))


def trackers(settings: RunSettings) -> list[Logger]:
    """The trackers a run asks for, besides its CSV files."""
    loggers: list[Logger] = []
    if settings.wandb != "off":
        loggers.append(
            WandbLogger(
                name=settings.folder.name,
                save_dir=settings.folder,
                offline=settings.wandb == "offline",
                project=settings.wandb_project,
                id=_wandb_id(settings),
                resume="allow",
            )
        )
    if settings.tensorboard:
        loggers.append(TensorBoardLogger(settings.folder, name="tensorboard", version=""))
    return loggers


def _wandb_id(settings: RunSettings) -> str:
    """The same id for the same folder, so that a continued run continues its curves."""
    return sha256(str(settings.folder.resolve()).encode()).hexdigest()[:16]


def main() -> None:
    """Runs the command line; after SIGTERM or Ctrl-C it exits with 143 or 130 and the run can be continued."""
    quiet_lightning()
    keep_freed_memory()
    set_parsing_settings(docstring_parse_attribute_docstrings=True)  # --help describes the fields of dataclasses
    try:
        command = TrainingCommand(
            LightningModule,
            FacesDataModule,
            subclass_mode_model=True,
            save_config_callback=None,
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_kwargs={"prog": "python -m train", "exit_on_error": False, "fit": {"exit_on_error": False}},
        )
    except (ArgumentError, MisconfigurationException, ValueError) as error:
        problem = _plain(error)
        if problem is error:
            raise
        raise problem from None
    if command.checkpoints.exit_code:
        sys.exit(command.checkpoints.exit_code)


def _plain(error: Exception) -> BaseException:
    """An error without jsonargparse's words about the alternative to a model and PyTorch's about its workers."""
    problem: BaseException = error
    while "pytorch_lightning.core.module.LightningModule'>" in str(problem) and problem.__cause__ is not None:
        problem = problem.__cause__
    if "DataLoader worker process" in str(problem).partition("\n")[0]:  # a traceback, the message at its end
        return ValueError(str(problem).rpartition(f"\n{type(problem).__name__}: ")[2].rstrip())
    if isinstance(problem, ArgumentError | MisconfigurationException):
        return ValueError(str(problem))
    return problem


def quiet_lightning() -> None:
    """Silences advice that does not apply: runs resume by themselves, and our loaders are sized by the user."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (".*does not have many workers.*", ".*lr_scheduler.step.*", ".*LeafSpec.*", ".*num_workers.*"):
        warnings.filterwarnings("ignore", message)
