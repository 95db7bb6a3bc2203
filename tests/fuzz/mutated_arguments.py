"""Thousands of wrong command lines: `python -m tests.fuzz.mutated_arguments --mutations 300`."""

import math
import os
import random
import shlex
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from system import command_line
from tests.fuzz.argument_inputs import all_commands, main_of, make_inputs, words_of
from tests.fuzz.forked_commands import BEGUN, Outcome, call, import_what_it_needs, in_fork, in_process

EXIT_CODES = {0: "done", 1: "ended with 1", 2: "refused in one line", 75: "out of time", BEGUN: "would begin a run"}
LONGEST_MESSAGE = 2000
SECONDS_TO_START = 60.0
"""A process of its own has at least so long, since it imports everything itself."""
STRANGE = (
    *("", "0", "-1", "1", "2", "3", "7", "500", "99999999", "-99999999999999999999", "1e999", "nan", "0.5", "-0.1"),
    *("null", "none", "true", "[]", "[1", "{}", "{a: b}", "*", "&a", "!!python/name:os.system", "..", ".", "/", "1_0"),
    *("/dev/null", "/dev/zero", "/proc/self/mem", "nowhere/x", "{noise}", "{empty_file}", "{empty_folder}", "{link}"),
    *("{text.yaml}", "{list.yaml}", "{faces}", "{faces.zip}", "{restorer}", "{prior}", "{prior_run}"),
    *("{restoration_run}", "{bundle}", "{config}", "{study}", "{out}", "{folder}", "x" * 300, "\x1b[31mred", "a\nb"),
    *("[bold]a[/x]", "=1+1", "~", "é\u202e", os.fsdecode(b"\xff")),
    *("-", "--", "---", "--help=1", "%s", "psnr", "released", "cpu", "cuda:9"),
)  # fmt: skip
KINDS = ("value", "value", "value", "value", "drop", "repeat", "option", "option", "misspell", "swap", "insert")


@dataclass(frozen=True)
class Slice:
    """Which of a command's mutations are tried in one go."""

    first: int
    last: int
    seconds: float
    """Processor time of each."""
    deadline: float
    """Of `time.monotonic`; none is begun after it."""


@dataclass
class Tally:
    """How all tried command lines of a command ended."""

    tried: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0
    mebibytes: float = 0.0


def mutated(words: Sequence[str], options: Sequence[str], numbers: random.Random) -> list[str]:
    """A command line after one to three edits: values, options, their order and their spelling."""
    words = list(words)
    for _ in range(numbers.choice((1, 1, 1, 2, 3))):
        kind, value = numbers.choice(KINDS), numbers.choice(STRANGE)
        place = numbers.randrange(len(words)) if words else 0
        if kind == "option" and options:
            words += [numbers.choice(options), *([value] if numbers.random() < 0.9 else [])]
        elif kind == "insert" or not words:
            words.insert(place, value)
        elif kind == "drop":
            del words[place]
        elif kind == "repeat":
            words.insert(place, words[place])
        elif kind == "misspell":
            cut = numbers.randrange(len(words[place]) + 1)
            words[place] = words[place][:cut] + numbers.choice("-_=.x0 ") + words[place][cut + 1 :]
        elif kind == "swap":
            other = numbers.randrange(len(words))
            words[place], words[other] = words[other], words[place]
        else:
            values = [index for index, word in enumerate(words) if not word.startswith("--")] or [place]
            words[numbers.choice(values)] = value
    return words


def filled(words: Sequence[str], inputs: Mapping[str, str]) -> list[str]:
    """A command line with paths in the place of names in braces."""
    texts = []
    for word in words:
        for name, path in inputs.items():
            word = word.replace(f"{{{name}}}", path)
        texts.append(word)
    return texts


def problems_of(outcome: Outcome) -> list[str]:
    """What is wrong with the way a command ended; nothing is where it did what it was asked or said why not."""
    text = outcome.output.decode(errors="replace")
    problems = []
    if "Traceback (most recent call last)" in text:
        problems.append("a traceback")
    if outcome.code is not None and outcome.code not in EXIT_CODES:
        problems.append(f"exit code {outcome.code}")
    unprintable = {character for character in text if not character.isprintable() and character not in "\n\t\r"}
    if unprintable or "\ufffd" in text:
        problems.append(f"output that a terminal would obey or cannot show: {sorted(unprintable)}")
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    if outcome.code == 2 and (len(errors) != 1 or not 20 < len(errors[0]) < LONGEST_MESSAGE):
        problems.append(f"{len(errors)} lines that say why, of {[len(line) for line in errors]} characters")
    return problems


def try_command(module: str, inputs: Mapping[str, str], folder: Path, wanted: Slice, numbers: random.Random) -> Tally:
    """Carries out mutated command lines of one command, every fiftieth in a process of its own."""
    tally, words, options, seconds = Tally(), words_of(module), options_of_command(module), wanted.seconds
    import_what_it_needs(lambda: call(module, filled(words, {**inputs, "out": "out"})), folder, 10 * seconds)
    for index in range(wanted.last + 1):
        typed = mutated(words, options, numbers) if index else words
        if index < wanted.first:
            continue
        if time.monotonic() > wanted.deadline:
            break
        tally.tried += 1
        place = folder / f"{module}_{index}"
        place.mkdir()
        places = {**inputs, "out": str(place / "out"), "folder": str(place)}
        tried = [word.replace("\0", "") for word in filled(typed, places)]
        if index % 50 == 25:
            outcome = in_process(module, tried, place, max(6 * seconds, SECONDS_TO_START), folder)
        else:
            limit = seconds if index else 30 * seconds  # the correct line has to end
            outcome = in_fork(lambda tried=tried: call(module, tried), place, place / "log", limit, folder)  # type: ignore[misc]
            tally.seconds = max(tally.seconds, outcome.seconds)
            tally.mebibytes = max(tally.mebibytes, outcome.mebibytes)
        name = "still at work" if outcome.code is None else EXIT_CODES.get(outcome.code, f"exit code {outcome.code}")
        tally.outcomes[name] += 1
        problems = problems_of(outcome)
        if index == 0 and outcome.code not in (0, BEGUN, None):
            problems.append("the correct command line is refused")
        if problems:
            end = outcome.output.decode(errors="replace")[-1500:]
            tally.problems.append(f"{'; '.join(problems)}: python -m {module} {shlex.join(tried)!r}\n{end}")
        shutil.rmtree(place)
    return tally


def options_of_command(module: str) -> list[str]:
    """All options of a command as they are typed."""
    if module != "train":
        spelled = command_line._parser(main_of(module))[1].values()
        return [option for option, _ in spelled if option.startswith("--")]
    from train.options import REFUSED, TrainerOptions
    from train.run.settings import FaceSettings, RunSettings
    from train.stages.restoration import RestorationTraining

    groups = {
        "run": RunSettings,
        "data": FaceSettings,
        "trainer": TrainerOptions,
        "model.init_args": RestorationTraining,
    }
    names = [name for prefix, owner in groups.items() for name in command_line.options_of(owner, prefix)]
    return [f"--{name}" for name in (*names, *(f"trainer.{name}" for name in REFUSED))]


def main(
    commands: tuple[str, ...] = (),
    /,
    mutations: int = 300,
    first: int = 0,
    seed: int = 0,
    seconds: float = 10.0,
    minutes: float = math.inf,
) -> int:
    """Changes correct command lines of every command at random and counts how the commands end.

    A command may do what it is asked or refuse it in one line with exit code 2; a traceback, another exit code or
    anything in its output that a terminal would obey is a problem, and told with the command line. The commands run in
    forked processes; every fiftieth line is typed to a process of its own. None of them can change anything outside of
    a temporary folder. Exit code 1 where there are problems.

    Args:
        commands: Modules such as scripts.evaluate; none for all.
        mutations: Of each command.
        first: Number of the mutation to begin with, where those before it have been tried; 0 is the correct line.
        seed: Of the changes.
        seconds: A command that is still at work after so much processor time is ended; it was accepted.
        minutes: No command line is begun after so many; the number of the next one is told.
    """
    import torch

    deadline = time.monotonic() + 60 * minutes
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    unknown = set(commands) - set(all_commands())
    if unknown:
        raise ValueError(f"commands must be some of {', '.join(all_commands())}, got {', '.join(sorted(unknown))}")
    has_problems = False
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)

        def by_itself(action: Callable[[], Any]) -> None:
            outcome = in_fork(action, folder, folder / "log", 600)
            if outcome.code not in (0, 2):
                raise ValueError(f"the inputs cannot be made: {outcome.output.decode(errors='replace')}")

        for variable in ("HOME", "TMPDIR"):
            os.environ[variable] = temporary
        tempfile.tempdir = temporary
        inputs = make_inputs(folder / "inputs", by_itself)
        print("command, its lines: how they ended; most processor time, most memory beside the imports", flush=True)
        for module in commands or all_commands():
            main_of(module)  # imported once for all
            numbers = random.Random(f"{seed} {module}")
            wanted = Slice(first, mutations, seconds, deadline)
            tally = try_command(module, inputs, folder, wanted, numbers)
            end = first + tally.tried
            counts = ", ".join(f"{number} {name}" for name, number in sorted(tally.outcomes.items()))
            print(f"{module}, {first} to {end - 1}: {counts}; {tally.seconds:.1f} s, {tally.mebibytes:,.0f} MiB; "
                  f"{len(tally.problems)} problems", flush=True)  # fmt: skip
            if end <= mutations:
                print(f"{minutes:g} minutes are over: continue {module} with --first {end}", flush=True)
            print("\n".join(tally.problems), end="\n" if tally.problems else "", flush=True)
            has_problems = has_problems or bool(tally.problems)
    return int(has_problems)


if __name__ == "__main__":
    command_line.run(main)
