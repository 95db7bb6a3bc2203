"""What every command shares: a typed, documented function is the command line; how errors and signals end it."""

import errno
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from inspect import Parameter, signature
from io import TextIOWrapper
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NoReturn, TextIO, get_args, get_origin, get_type_hints

from docstring_parser import parse, parse_from_object
from jsonargparse import ArgumentError, ArgumentParser
from jsonargparse.typing import register_type

from system.child_processes import end_with_parent
from system.interruption import INTERRUPTED_CODE, is_interruption
from system.live_progress import live_progress
from system.wording import printable, printable_line, unwrapped

EXPECTED_ERRORS = (ValueError, OSError)
WRONG_INPUT_CODE = 2
LOST_PROCESS_CODE = 138
"""A process that the command needs was lost, or a scheduler gave notice (128 + SIGUSR1): the same command goes on."""
KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    Path: "a path",
    NoneType: "null",
}
"""Types of options in the words of messages."""
_FULL = "make room, or write to another disk, and repeat the command"
_FORBIDDEN = "choose a place where you may do that"
REMEDIES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EROFS: "choose a place that can be written to",
    errno.ENOENT: "check the name; what is to be written needs a place where files can be made",
    errno.ENOTDIR: "a part of this path is a file, not a folder; check the name",
    errno.EEXIST: "a file or a link to nothing is where a folder is wanted; choose another name",
    errno.EISDIR: "name a file",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "its links lead in a circle; mend them, or name the file itself",
    errno.EMFILE: "raise the number of files that may be open (ulimit -n)",
    errno.ENOMEM: "free memory, or work on less at once",
    errno.EIO: "the disk or the network that holds it fails; check it, and repeat the command",
}
"""What to do about errors of the operating system, by their numbers."""

Command = Callable[..., int | None]


def run(command: Command, words: Sequence[str] | None = None) -> NoReturn:
    """Calls a function with the arguments that its command line gives, and exits with its status.

    The function's docstring is the help; each argument has a type and a sentence. Its positional-only arguments are the
    positional ones of the command line, all others are options; a truth value is a flag, a tuple takes several words,
    the fields of a frozen dataclass (and of one among them) are options in a group of their own, and `*words` are what
    follows `--`. Options are written with underscores, as in YAML; dashes are read alike. The function returns its exit
    code, None for 0.
    """
    words = sys.argv[1:] if words is None else words
    conclude(lambda: command(*arguments_of(command, words)))


def conclude(action: Callable[[], int | None]) -> NoReturn:
    """Does something and exits with its status.

    Exit codes: 0 on success or what the action returns, 2 after a wrong option, file or folder (one line on stderr),
    130 after Ctrl-C, 138 after the loss of a process it needs (one line as well). With `GPEN_TRACEBACK=1` in the
    environment errors keep their traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that is no UTF-8 ends no command
    try:
        end_with_parent()
        code = action()
    except EXPECTED_ERRORS as error:
        if os.environ.get("GPEN_TRACEBACK") == "1":
            raise
        print(f"error: {one_line(error)}", file=sys.stderr, flush=True)
        if isinstance(error, ChildProcessError):
            sys.stdout.flush()
            os._exit(exit_code_of(error))  # an ordinary end would wait for processes that hang
        sys.exit(exit_code_of(error))
    except (KeyboardInterrupt, ImportError) as error:
        if not is_interruption(error):
            raise
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED_CODE)
    sys.exit(code or 0)


def print_names(*lines: str, file: TextIO | None = None) -> None:
    """Prints lines with names of files, of which a terminal obeys nothing and which do not begin lines of their own, to
    a file such as standard error (None for standard output)."""
    print(*map(printable_line, lines), sep="\n", file=file, flush=True)


WIDE = 132
"""Columns of a wide terminal."""


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]], with_rules: bool = False) -> None:
    """Prints a table whole, however narrow the terminal: long words are folded, and markup is text. A file or a pipe,
    of no width, counts as a wide terminal.

    Args:
        title: Above it; empty for none.
        header: Heads of the columns, the first of which is one of names and the others of numbers.
        rows: Cells of texts; a line break in one begins a line.
        with_rules: Draw a rule below each row.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(printable_line(title), style="table.title") if title else None)
    for index, name in enumerate(header):
        table.add_column(Text(printable(name)), justify="right" if index else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row), end_section=with_rules)
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDE
    console.print(table)


def one_line(error: BaseException) -> str:
    """An error as users see it: one line that no terminal obeys; one of the operating system with file and remedy."""
    if isinstance(error, OSError) and error.errno is not None and error.strerror and error.errno > 0:
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        remedy = REMEDIES.get(error.errno, "check the name and the place of the file" if where else "")
        text = f"{where}{error.strerror[0].lower()}{error.strerror[1:]}{f'; {remedy}' if remedy else ''}"
        return printable_line(text)
    return printable(unwrapped(error) or type(error).__name__)


def exit_code_of(error: BaseException) -> int:
    """Gives the exit code of a process that ends with an error."""
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED_CODE
    if isinstance(error, ChildProcessError):
        return LOST_PROCESS_CODE
    return WRONG_INPUT_CODE if isinstance(error, EXPECTED_ERRORS) else 1


@contextmanager
def progress_bar(words: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows on stderr how far something of so many steps is and how long it still takes (`system.live_progress`);
    yields what takes the steps done so far."""
    with live_progress(words, total) as show:
        yield lambda done: show(words, done, total)


def underscored(words: Sequence[str]) -> list[str]:
    """The words of a command line with underscores for the dashes in the names of options."""
    return [re.sub(r"^--[^=]+", lambda name: "--" + name[0][2:].replace("-", "_"), word) for word in words]


def read_folder_or_file(value: object) -> Path:
    """A path of an option or a YAML file; `~` is the home folder, relative ones begin at the working directory.
    ValueError where it is null or empty."""
    if not isinstance(value, str | Path) or str(value) in ("", "null", "None"):
        raise ValueError(f"it must be a path, got {value!r}")
    return Path(value).expanduser()


register_type(Path, serializer=str, deserializer=read_folder_or_file, fail_already_registered=False)


def arguments_of(command: Command, words: Sequence[str]) -> list[Any]:
    """The arguments of a call, in their order; ValueError where the words are no command line for this function."""
    parser, options = _parser(command)
    hints, parameters = get_type_hints(command), signature(command).parameters
    takes_more = any(parameter.kind is Parameter.VAR_POSITIONAL for parameter in parameters.values())
    end = words.index("--") if takes_more and "--" in words else len(words)
    try:
        parsed = parser.parse_args(underscored(words[:end]))
    except ArgumentError as error:
        raise ValueError(plain_error(str(error), options)) from error
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in vars(parsed).items()}
    arguments: list[Any] = []
    for name, parameter in parameters.items():
        group: Any = hints[name]
        if parameter.kind is Parameter.VAR_POSITIONAL:
            arguments += words[end + 1 :]
        elif is_dataclass(hints[name]):
            arguments.append(_filled(group, values))
        else:
            arguments.append(values[name])
    return arguments


def _filled(group: Any, values: Mapping[str, Any]) -> Any:
    """A dataclass, and those among its fields, with the values of their options."""
    hints = get_type_hints(group)
    found = {
        field.name: _filled(hints[field.name], values) if is_dataclass(hints[field.name]) else values[field.name]
        for field in fields(group)
    }
    return group(**found)


def _parser(command: Command) -> tuple[ArgumentParser, dict[str, tuple[str, Any]]]:
    """The parser of a function's command line; the spelling and the type of each option by its name."""
    document, hints = parse(command.__doc__ or ""), get_type_hints(command)
    texts = {p.arg_name: p.description for p in document.params}
    description = "\n\n".join(filter(None, (document.short_description, document.long_description)))
    parser = ArgumentParser(_program(command), description=description, exit_on_error=False, allow_abbrev=False)
    options: dict[str, tuple[str, Any]] = {}
    for name, parameter in signature(command).parameters.items():
        kind: Any = hints[name]
        if is_dataclass(kind):
            _add_group(parser, kind, options)
        elif parameter.kind is not Parameter.VAR_POSITIONAL:
            option = name if parameter.kind is Parameter.POSITIONAL_ONLY else f"--{name}"
            options[name] = option, kind
            default = MISSING if parameter.default is Parameter.empty else parameter.default
            _add(parser, option, kind, default, texts[name])
    return parser, options


def _add_group(parser: ArgumentParser, kind: Any, options: dict[str, tuple[str, Any]]) -> None:
    """Adds the fields of a dataclass; a dataclass among them is a group of its own."""
    described, hints = parse_from_object(kind), get_type_hints(kind)
    group = parser.add_argument_group((described.short_description or kind.__name__).rstrip("."))
    texts = {p.arg_name: p.description for p in described.params}
    for field in fields(kind):
        if is_dataclass(hints[field.name]):
            _add_group(parser, hints[field.name], options)
            continue
        default = field.default if field.default_factory is MISSING else field.default_factory()
        options[field.name] = f"--{field.name}", hints[field.name]
        _add(group, *options[field.name], default, texts[field.name])


def _add(parser: Any, option: str, kind: Any, default: Any, text: str | None) -> None:
    if kind is bool:
        parser.add_argument(option, action="store_true", help=text)
        return
    is_option = option.startswith("--")
    needed: dict[str, Any] = {"required": True} if is_option and default is MISSING else {}
    if default is not MISSING:
        needed["default"] = list(default) if isinstance(default, tuple) else default
    if get_origin(kind) is tuple and get_args(kind)[1:] == (...,):
        kind = get_args(kind)[0]
        needed["nargs"] = "+" if is_option or default is MISSING else "*"
    parser.add_argument(option, type=kind, help=text, **needed)


def _program(command: Command) -> str:
    name = command.__module__
    if name == "__main__":
        specification = sys.modules["__main__"].__spec__
        name = Path(sys.argv[0]).stem if specification is None else specification.name
    return f"python -m {name.removesuffix('.__main__')}"


def options_of(owner: type, prefix: str) -> dict[str, tuple[str, Any]]:
    """Spelling and type of every option that a dataclass, or a class whose constructor has typed arguments, stands for,
    by its name with a prefix such as `run`; those of its dataclasses too."""
    options: dict[str, tuple[str, Any]] = {}
    for name, kind in get_type_hints(owner if is_dataclass(owner) else owner.__init__).items():  # type: ignore[misc]
        options[f"{prefix}.{name}"] = f"{prefix}.{name}", kind
        if is_dataclass(kind) and isinstance(kind, type):
            options |= options_of(kind, f"{prefix}.{name}")
    return options


def plain_error(text: str, options: Mapping[str, tuple[str, Any]]) -> str:
    """An error of jsonargparse in one line, with options as they are typed (spelling and type by name) and without the
    types of Python."""
    missing = re.fullmatch(r"the following arguments are required: (.*)", text)
    if missing:
        spelled = (options[name][0] if name in options else name for name in missing[1].split(", "))
        return f"required, but not given: {', '.join(spelled)}"
    key = re.match(r'Parser key "([^"]+)"', text)
    values = re.findall(r"(?:Got value: |Given value: |, got )(.*)", text)
    if key is None or not values or key[1] not in options:
        return text
    option, kind = options[key[1]]
    return f"{option} must be {kind_in_words(kind)}, got {'null' if values[-1] == 'None' else values[-1]}"


def kind_in_words(kind: Any) -> str:
    """A type as a message names it, such as "a whole number or null"."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if get_origin(kind) is tuple and get_args(kind)[1:] != (...,):
        return f"{len(get_args(kind))} values in brackets"
    if get_origin(kind) is list:
        return "a list"
    if get_origin(kind) is tuple:
        return f"some of {kind_in_words(get_args(kind)[0]).removeprefix('one of ')}"
    return KINDS.get(kind) or " or ".join(map(kind_in_words, get_args(kind))) or str(kind)
