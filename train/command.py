"""`python -m train fit`: the command line of both stages, from YAML files and options to a run."""

import os
import sys
from argparse import SUPPRESS
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ActionConfigFile, ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from data.faces.files import check_faces_exist
from system import machine
from system.command_line import options_of, plain_error, print_names, underscored
from system.live_progress import live_progress
from system.paths import way_out
from system.plain_yaml import guard_options, read_yaml, value_problems
from train.options import REFUSED, TrainerOptions, check_refused
from train.run.settings import FaceSettings, RunSettings

STAGES = ("train.stages.prior.PriorTraining", "train.stages.restoration.RestorationTraining")
"""Classes that `model.class_path` may name."""
GROUPS = ("trainer", "model", "data", "run")
"""Groups of options in config.yaml; `run` is the last, so that a file that was cut off is told by it."""
USAGE = "python -m train fit --config FILE [--config FILE ...] [OPTION VALUE ...]"
DESCRIPTION = """Trains a stage; the same command continues its run. Options come from YAML files and from the command
line, the later ones win. With --config FILE --help the options of the model that it names are described as well. Exit
codes: 0 the run is complete; 2 a wrong option, file or folder; 75 run.max_minutes are over; 129, 130, 138 and 143
it was interrupted. After 75, 129, 130, 138 and 143 the same command goes on."""


def main() -> int:
    """Carries the command line of this process out and returns its exit code."""
    words = underscored(sys.argv[1:])
    if not _asks_for_help(words) and words[:1] != ["fit"]:
        raise ValueError(f"`python -m train` has one command, fit, got {' '.join(words[:1]) or 'none'}; begin with it")
    return fit(words[1:] if words[:1] == ["fit"] else words)


def fit(words: Sequence[str]) -> int:
    """Begins or continues a run, given what follows `python -m train fit`; returns 0 where it is complete, else the
    exit code that says why not. Raises ValueError where an option, file or folder is wrong."""
    with live_progress("starting", as_lines=True):
        if not _asks_for_help(words) and not any(word.startswith("--print_config") for word in words):
            _, config = _parse(words, with_model=False)
            _say_what_starts(config)
            check_faces_exist(*(value for value in vars(config.data).values() if isinstance(value, Path)))
        parser, config = _parse(words)
        from train.training import Training

        training = Training(parser.instantiate(config), as_dict(parser, config))
    return training.fit()


def objects_of(words: Sequence[str]) -> Namespace:
    """What the options of a run, which follow `python -m train fit`, stand for, instantiated: `run`, `data`, `trainer`
    and `model.init_args`. ValueError where an option or config file is wrong."""
    parser, config = _parse(words)
    return parser.instantiate(config)


def resolve(words: Sequence[str]) -> dict[str, Any]:
    """All options of a run, defaults included, given what follows `python -m train fit`; nothing is read but config
    files. Raises ValueError where one is wrong."""
    return as_dict(*_parse(words))


def as_dict(parser: ArgumentParser, config: Namespace) -> dict[str, Any]:
    """A configuration as config.yaml names it."""
    values = yaml.safe_load(parser.dump(config, skip_unset=False))
    return {name: values[name] for name in GROUPS}


def _asks_for_help(words: Sequence[str]) -> bool:
    return bool({"-h", "--help"} & set(words))


def _say_what_starts(config: Namespace) -> None:
    """Prints the first line of a run, before PyTorch and Lightning, which take seconds to load; of several processes
    only the first one does."""
    if all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID")):
        run = config.run
        print_names(
            f"starting: {run.folder}, {run.total_images:,} images of {config.data.faces}, on {machine.processor()}"
        )


def _parse(words: Sequence[str], with_model: bool = True) -> tuple[ArgumentParser, Namespace]:
    """Reads options and config files, those of the model as they stand unless it is asked for; a ValueError names a
    wrong one as it is written in YAML."""
    guard_options()
    module, _, name = (_stage(words) or "").rpartition(".")
    stage = getattr(import_module(module), name) if name and with_model else None
    groups = _groups(stage)
    parser = _parser(stage, is_help=_asks_for_help(words))
    try:
        config = parser.parse_args(list(words))
    except ArgumentError as error:
        options = {
            name: option for prefix, owner in groups.items() for name, option in options_of(owner, prefix).items()
        }
        raise ValueError(plain_error(str(error), options)) from error
    except (TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:  # such as a list for a class
        raise ValueError(
            f"the configuration cannot be understood ({type(error).__name__}: {str(error)[:200]}); compare it with the "
            "files in configs/"
        ) from error
    check_refused({name: config.trainer.pop(name) for name in REFUSED if name in config.trainer})
    problems = [p for name, owner in groups.items() for p in value_problems(owner, config[name].as_dict(), name)]
    if problems:
        raise ValueError("; ".join(problems))
    return parser, config


def _groups(stage: type | None) -> dict[str, type]:
    """Classes whose arguments are options, by the name of their group."""
    groups: dict[str, type] = {"run": RunSettings, "data": FaceSettings, "trainer": TrainerOptions}
    return groups if stage is None else groups | {"model.init_args": stage}


@cache
def _parser(stage: type | None, is_help: bool) -> ArgumentParser:
    """The parser of a stage's options. Only --help describes the fields of dataclasses: to read them takes longer than
    all else here, and a study parses the options of each of its runs."""
    set_parsing_settings(docstring_parse_attribute_docstrings=is_help)
    groups = _groups(stage)
    parser = ArgumentParser(
        "python -m train fit", USAGE, description=DESCRIPTION, exit_on_error=False, allow_abbrev=False
    )
    parser.add_argument("-c", "--config", action=ActionConfigFile, help="YAML file; several are laid over one another")
    for name in ("run", "data"):
        parser.add_class_arguments(groups[name], name)
    parser.add_argument("--model.class_path", type=Literal[STAGES], required=True, help="What is trained.")
    if "model.init_args" in groups:
        parser.add_class_arguments(groups["model.init_args"], "model.init_args")
        for name in ("seed", "num_parts"):
            parser.link_arguments(f"run.{name}", f"model.init_args.computation.{name}")
    else:
        parser.add_argument("--model.init_args", nargs="?", type=dict[str, Any] | Any, default=SUPPRESS, help=SUPPRESS)
    parser.add_class_arguments(groups["trainer"], "trainer")
    for name in REFUSED:
        parser.add_argument(f"--trainer.{name}", type=Any, default=SUPPRESS, help=SUPPRESS)
    return parser


def _stage(words: Sequence[str]) -> str | None:
    """Names the class that is trained, by the last config file or option that does; None for help about all. Raises
    ValueError where none or another one is named, or a file is no plain YAML."""
    name = None
    for word, following in pairwise([*words, ""]):
        option, equals, value = word.partition("=")
        value = value if equals else following
        if option == "--model.class_path":
            name = value
        elif option in ("--config", "-c"):
            if not value:
                raise ValueError(f"{option} must be followed by a file, got none; begin with a file of configs/")
            if not Path(value).expanduser().is_file():
                raise FileNotFoundError(f"there is no config file {value}{way_out(value)}")
            content = read_yaml(Path(value).expanduser())
            if not isinstance(content, dict):
                kind = "nothing" if content is None else f"a {type(content).__name__}"
                raise ValueError(f"a config must hold keys and values as configs/ does, {value} holds {kind}")
            model = content.get("model")
            name = model.get("class_path", name) if isinstance(model, dict) else name
    if name not in STAGES and not (name is None and _asks_for_help(words)):
        raise ValueError(
            f"model.class_path must be {' or '.join(STAGES)}, got {name or 'none'}; begin with a file of configs/"
        )
    return name
