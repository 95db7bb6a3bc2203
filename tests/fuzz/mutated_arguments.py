"""Thousands of wrong command lines: `python -m tests.fuzz.mutated_arguments --mutations 300`."""

import os
import random
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

from system import command_line

BEGUN = 99
"""Exit code in the place of a run, a study or a soak that a command line would begin."""
MEMORY_LIMIT_BYTES = 6 * 2**30
"""Address space of a command beyond what the imports take."""
EXIT_CODES = {0: "done", 1: "ended with 1", 2: "refused in one line", 75: "out of time", BEGUN: "would begin a run"}
LONGEST_MESSAGE = 2000
STRANGE = (
    *("", "0", "-1", "1", "2", "3", "7", "500", "99999999", "-99999999999999999999", "1e999", "nan", "0.5", "-0.1", "1_0"),
    *("null", "none", "true", "[]", "[1", "{}", "{a: b}", "*", "&a", "!!python/name:os.system", "..", ".", "/", "~", "a,b"),
    *("/dev/null", "/dev/zero", "/proc/self/mem", "nowhere/x", "{noise}", "{empty_file}", "{empty_folder}", "{link}"),
    *("{text.yaml}", "{list.yaml}", "{faces}", "{faces.zip}", "{restorer}", "{prior}", "{prior_run}", "{restoration_run}"),
    *("{bundle}", "{config}", "{study}", "{out}", "{folder}", "x" * 300, "\x1b[31mred", "a\nb", "[bold]a[/x]", "=1+1"),
    *("é\u202e", os.fsdecode(b"\xff"), "-", "--", "---", "--help=1", "%s", "psnr", "released", "cpu", "cuda:9"),
)  # fmt: skip
KINDS = ("value", "value", "value", "value", "drop", "repeat", "option", "option", "misspell", "swap", "insert")


@dataclass
class Outcome:
    """How a command ended."""

    code: int | None
    """None where it was ended since it was at work for long."""
    output: bytes
    seconds: float
    mebibytes: float = 0.0


@dataclass
class Tally:
    """Of all command lines of a command."""

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


def in_fork(action: Callable[[], Any], folder: Path, log: Path, seconds: float) -> Outcome:
    """Carries something out in a forked process, so that the imports of this one are there already.

    Args:
        action: What a command's process would do.
        folder: Its working directory.
        log: File for what it prints.
        seconds: It is ended after them.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    start, own = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    process = os.fork()
    if process == 0:
        _become(folder, log)
        _carry_out(action)
    code, usage = _wait(process, start + seconds)
    return Outcome(code, log.read_bytes(), time.monotonic() - start, max(usage.ru_maxrss - own, 0) / 1024)


def _become(folder: Path, log: Path) -> None:
    """Makes a forked process one of its own: session, working directory, output, limit on memory."""
    os.setsid()
    os.chdir(folder)
    number = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for standard in (1, 2):
        os.dup2(number, standard)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY_LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _carry_out(action: Callable[[], Any]) -> NoReturn:
    """Ends a forked process as Python would."""
    code = 0
    try:
        action()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _wait(process: int, deadline: float) -> tuple[int | None, Any]:
    """Waits for a process, or ends it with its session when it takes too long."""
    has_time = True
    while True:
        ended, status, usage = os.wait4(process, os.WNOHANG)
        if ended:
            break
        if has_time and time.monotonic() > deadline:
            has_time = False
            os.killpg(process, signal.SIGKILL)
        time.sleep(0.005)
    return (os.waitstatus_to_exitcode(status) if has_time else None), usage


def in_process(module: str, words: Sequence[str], folder: Path, seconds: float) -> Outcome:
    """Starts a command as its users do; one that is still at work is asked to end, and has to take all its processes along."""
    from tests.fuzz.argument_inputs import ROOT

    start = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", module, *words]
        process = subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                                   stderr=log, start_new_session=True)  # fmt: skip
        code: int | None
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.terminate()
            code = process.wait(120)
            code = None if code in (-signal.SIGTERM, 128 + signal.SIGTERM) else code
    return Outcome(code, (folder / "log").read_bytes(), time.monotonic() - start)


def call(module: str, words: Sequence[str]) -> None:
    """What the process of a command does, but that it begins no other one and downloads nothing."""
    from system.child_processes import Children
    from tests.fuzz.argument_inputs import main_of

    def begin(*_: object, **__: object) -> NoReturn:
        sys.exit(BEGUN)

    Children.start = begin  # type: ignore[method-assign]
    os.environ |= {"https_proxy": "http://127.0.0.1:9", "TORCH_HOME": os.getcwd(), "WANDB_MODE": "disabled"}
    if module == "train":
        sys.argv = ["train", *words]
        command_line.conclude(main_of(module))
    if module == "scripts.run_demo":
        import demo.steps

        demo.steps.measure_speed = lambda precision: demo.steps.Speed(1.0, 1.0)  # type: ignore[attr-defined]
    command_line.run(main_of(module), words)


def try_command(
    module: str, inputs: Mapping[str, str], folder: Path, mutations: int, numbers: random.Random, seconds: float
) -> Tally:
    """Carries out mutated command lines of one command, every fiftieth in a process of its own."""
    from tests.fuzz.argument_inputs import words_of

    tally, words, options = Tally(), words_of(module), options_of_command(module)
    for index in range(mutations + 1):
        place = folder / f"{module}_{index}"
        place.mkdir()
        places = {**inputs, "out": str(place / "out"), "folder": str(place)}
        tried = filled(mutated(words, options, numbers) if index else words, places)
        tried = [word.replace("\0", "") for word in tried]
        if index % 50 == 25:
            outcome = in_process(module, tried, place, seconds + 30)
        else:
            outcome = in_fork(lambda tried=tried: call(module, tried), place, place / "log", seconds)  # type: ignore[misc]
            tally.seconds = max(tally.seconds, outcome.seconds)
            tally.mebibytes = max(tally.mebibytes, outcome.mebibytes)
        name = "still at work" if outcome.code is None else EXIT_CODES.get(outcome.code, f"exit code {outcome.code}")
        tally.outcomes[name] += 1
        problems = problems_of(outcome)
        if index == 0 and outcome.code not in (0, BEGUN):
            problems.append("the correct command line is refused")
        if problems:
            end = outcome.output.decode(errors="replace")[-1500:]
            tally.problems.append(f"{'; '.join(problems)}: python -m {module} {shlex.join(tried)!r}\n{end}")
        shutil.rmtree(place)
    return tally


def options_of_command(module: str) -> list[str]:
    """All options of a command as they are typed."""
    from tests.fuzz.argument_inputs import main_of

    if module != "train":
        spelled = command_line._parser(main_of(module))[1].values()
        return [option for option, _ in spelled if option.startswith("--")]
    from train.options import REFUSED, TrainerOptions
    from train.run.settings import FaceSettings, RunSettings
    from train.stages.restoration import RestorationTraining

    groups = {"run": RunSettings, "data": FaceSettings, "trainer": TrainerOptions, "model.init_args": RestorationTraining}
    names = [name for prefix, owner in groups.items() for name in command_line.options_of(owner, prefix)]
    return [f"--{name}" for name in (*names, *(f"trainer.{name}" for name in REFUSED))]


def main(commands: tuple[str, ...] = (), /, mutations: int = 300, seed: int = 0, seconds: float = 20.0) -> int:
    """Changes correct command lines of every command at random and counts how the commands end.

    A command may do what it is asked or refuse it in one line with exit code 2; a traceback, another exit code or
    anything in its output that a terminal would obey is a problem, and told with the command line. The commands run in
    forked processes; every fiftieth line is typed to a process of its own. Exit code 1 where there are problems.

    Args:
        commands: Modules such as scripts.evaluate; none for all.
        mutations: Of each command.
        seed: Of the changes.
        seconds: A command that is still at work after them is ended; it was accepted.
    """
    import torch

    from tests.fuzz.argument_inputs import all_commands, main_of, make_inputs

    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    unknown = set(commands) - set(all_commands())
    if unknown:
        raise ValueError(f"commands must be some of {', '.join(all_commands())}, got {', '.join(sorted(unknown))}")
    has_problems = False
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)

        def by_itself(action: Callable[[], Any]) -> None:
            outcome = in_fork(action, folder, folder / "log", 600)
            if outcome.code not in (0, 2):
                raise ValueError(f"the inputs cannot be made: {outcome.output.decode(errors='replace')}")

        inputs = make_inputs(folder / "inputs", by_itself)
        print("command, command lines: how they ended; longest time, most memory beside the imports", flush=True)
        for module in commands or all_commands():
            main_of(module)  # imported once for all
            tally = try_command(module, inputs, folder, mutations, random.Random(f"{seed} {module}"), seconds)
            counts = ", ".join(f"{number} {name}" for name, number in sorted(tally.outcomes.items()))
            print(f"{module}, {mutations + 1}: {counts}; {tally.seconds:.1f} s, {tally.mebibytes:,.0f} MiB; "
                  f"{len(tally.problems)} problems", flush=True)  # fmt: skip
            print("\n".join(tally.problems), end="\n" if tally.problems else "", flush=True)
            has_problems = has_problems or bool(tally.problems)
    return int(has_problems)


if __name__ == "__main__":
    command_line.run(main)
