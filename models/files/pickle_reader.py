"""Pickles as plain values: an interpreter that knows numbers, texts, lists, mappings, tensors and no other object."""

import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

import torch

from models.files.stored_tensor import Storage

MOST_OPERATIONS = 500_000
"""A checkpoint with the state of two optimizers has about 50,000; a million take a second."""
MOST_NAMES = 100
"""Of classes, to report."""
LARGEST_KEY = 2**32
_STORAGE = re.compile(r"torch\.(\w+)Storage")
_DTYPES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
}
_KNOWN = re.compile(
    r"collections\.OrderedDict|torch\._utils\._rebuild_(tensor|tensor_v2|parameter|parameter_with_state)|"
    r"torch\.nn\.parameter\.Parameter|torch\.(\w+Storage|storage\.(Typed|Untyped)Storage|Size|device|dtype)|"
    r"torch\.(b?float16|float32|float64|u?int8|int16|int32|int64|bool)|torch\.storage\._load_from_bytes|"
    r"torch_utils\.persistence\._reconstruct_persistent_obj|dnnlib\.util\.EasyDict"
)
"""What state dicts and NVIDIA's networks are made of; it is carried out here."""
_HARMLESS = re.compile(
    r"argparse\.Namespace|types\.SimpleNamespace|numpy\.(_?core\.)?(_?multiarray\.(scalar|_reconstruct)|\w+)|"
    r"_codecs\.encode|pathlib\.(Pure)?(Posix|Windows)?Path|collections\.(defaultdict|Counter|deque)|"
    r"builtins\.(set|frozenset|complex|slice|range|list|dict|tuple|int|float|bool|str|object)|copyreg\._reconstructor|"
    r"datetime\.\w+|(omegaconf|easydict|addict|yacs|ml_collections|box)(\.\w+)+|pytorch_lightning\.\w+(\.\w+)*|"
    r"lightning(_fabric)?\.\w+(\.\w+)*"
)
"""What others store beside their weights: options and figures. A stand-in takes the place of such an object."""


@dataclass(frozen=True)
class StandIn:
    """An object of a class that is not carried out: its name is kept, whatever else was said about it is not."""

    name: str


@dataclass
class PickleReader:
    """Carries out pickles, whose every operation takes a time and memory that its own bytes bound.

    Nothing is imported, called or hashed but texts and whole numbers.
    """

    persistent: Callable[[Any], Any]
    """Gives what a persistent id stands for."""
    load_bytes: Callable[[bytes], Any]
    """Reads a storage that was pickled as bytes."""
    stand_ins: set[str] = field(default_factory=set)
    """Harmless classes that were met."""
    dangerous: set[str] = field(default_factory=set)
    """Other classes and functions that were met: the file is to be refused."""
    num_operations: int = 0
    """In all pickles so far."""

    def read(self, file: IO[bytes]) -> Any:
        """Reads one pickle from where a file stands, and leaves it there where the pickle ends. Raises ValueError where
        the pickle is damaged (which may show as other errors as well), does what no checkpoint needs, or is too long.
        """
        stack: list[Any] = []
        marks: list[int] = []
        memo: dict[int, Any] = {}
        for opcode, argument, _ in pickletools.genops(file):
            self.num_operations += 1
            if self.num_operations > MOST_OPERATIONS:
                raise ValueError(f"it has more than {MOST_OPERATIONS} operations")
            name = opcode.name
            if name == "STOP":
                (result,) = stack
                return result
            if name in _LITERALS:  # numbers, texts and bytes
                stack.append(argument)
            elif name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
                memo[_small(argument)] = stack[-1]
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif name in ("GET", "BINGET", "LONG_BINGET"):
                stack.append(memo[_small(argument)])
            elif name == "MARK":
                marks.append(len(stack))
            elif pickletools.markobject in opcode.stack_before:
                first = marks.pop()
                items = stack[first:]
                del stack[first:]
                self._gather(name, argument, items, stack)
            else:
                self._operate(name, argument, stack)
        raise ValueError("it does not end")

    def _gather(self, name: str, argument: Any, items: list[Any], stack: list[Any]) -> None:
        """Carries out an operation on all that lies above a mark."""
        match name:
            case "LIST":
                stack.append(items)
            case "TUPLE":
                stack.append(tuple(items))
            case "DICT" | "SETITEMS":
                target = {} if name == "DICT" else stack.pop()
                _set_items(target, items)
                stack.append(target)
            case "APPENDS":
                _append(stack[-1], items)
            case "ADDITEMS" | "POP_MARK":  # sets have become stand-ins
                pass
            case "FROZENSET":
                stack.append(self._named("builtins.frozenset"))
            case "INST":
                stack.append(self._call(self._named(str(argument).replace(" ", ".")), tuple(items)))
            case "OBJ":
                stack.append(self._call(items[0], tuple(items[1:])))
            case _:
                raise ValueError(f"the operation {name} is not part of a checkpoint")

    def _operate(self, name: str, argument: Any, stack: list[Any]) -> None:
        """Carries out an operation on the last few values."""
        match name:
            case "PROTO" | "FRAME":
                pass
            case "POP":
                stack.pop()
            case "DUP":
                stack.append(stack[-1])
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_SET":
                stack.append(self._named("builtins.set"))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                number = int(name[-1])
                stack[-number:] = [tuple(stack[-number:])]
            case "APPEND":
                _append(stack[-2], [stack.pop()])
            case "SETITEM":
                items = stack[-2:]
                del stack[-2:]
                _set_items(stack[-1], items)
            case "GLOBAL":
                stack.append(self._named(str(argument).replace(" ", ".")))
            case "STACK_GLOBAL":
                words = stack[-2:]
                del stack[-2:]
                if not all(type(word) is str for word in words):
                    raise ValueError("a name is no text")
                stack.append(self._named(".".join(words)))
            case "REDUCE" | "NEWOBJ":
                arguments = stack.pop()
                stack.append(self._call(stack.pop(), arguments))
            case "NEWOBJ_EX":
                _, arguments = stack.pop(), stack.pop()
                stack.append(self._call(stack.pop(), arguments))
            case "BUILD":
                stack.pop()  # attributes, such as the versions in a state dict, are not needed
            case "BINPERSID":
                stack.append(self.persistent(stack.pop()))
            case _:
                raise ValueError(f"the operation {name} is not part of a checkpoint")

    def _named(self, name: str) -> StandIn:
        """What an import gives: the name alone."""
        name = name[:200].replace("__builtin__.", "builtins.").replace("copy_reg.", "copyreg.")
        if not _KNOWN.fullmatch(name):
            found = self.stand_ins if _HARMLESS.fullmatch(name) else self.dangerous
            if len(found) < MOST_NAMES:
                found.add(name)
        return StandIn(name)

    def _call(self, function: Any, arguments: Any) -> Any:
        """What a call gives: a tensor or a mapping for the few that make those, else a stand-in."""
        if not isinstance(function, StandIn) or not isinstance(arguments, tuple):
            raise ValueError("something is called that is no function")
        match function.name.removeprefix("torch._utils."):
            case "_rebuild_tensor" | "_rebuild_tensor_v2" if isinstance(arguments[0], Storage):
                return arguments[0].view(*arguments[1:4])
            case "_rebuild_parameter" | "_rebuild_parameter_with_state" | "torch.Size":
                return arguments[0]
            case "torch_utils.persistence._reconstruct_persistent_obj":
                return arguments[0]
            case "torch.storage._load_from_bytes":
                return self.load_bytes(arguments[0])
            case "collections.OrderedDict" | "dnnlib.util.EasyDict":
                content: dict[Any, Any] = {}
                for key, value in arguments[0] if arguments and isinstance(arguments[0], list) else ():
                    _set_items(content, [key, value])
                return content
            case _:
                return StandIn(function.name)


_LITERALS = {
    opcode.name
    for opcode in pickletools.opcodes
    if re.fullmatch(r"(BIN)?INT[12]?|LONG[14]?|(BIN)?FLOAT|\w*(STRING|UNICODE8?|BYTES8?|BYTEARRAY8)", opcode.name)
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


def storage_dtype(kind: Any) -> torch.dtype:
    """The numbers of a class such as `torch.FloatStorage`; ValueError where it is no such class or one that no network
    needs."""
    found = _STORAGE.fullmatch(kind.name) if isinstance(kind, StandIn) else None
    if found is None or found[1] not in _DTYPES:
        raise ValueError("a storage is of an unknown kind")
    return _DTYPES[found[1]]


def _small(number: Any) -> int:
    """A whole number that is no larger than needed: many large ones can be chosen so that they hash to the same."""
    if type(number) is not int or not 0 <= number < LARGEST_KEY:
        raise ValueError(f"a number is not from 0 to {LARGEST_KEY}")
    return number


def _append(target: Any, items: list[Any]) -> None:
    if isinstance(target, list):
        target.extend(items)
    elif not isinstance(target, StandIn):
        raise ValueError("something is appended to what is no list")


def _set_items(target: Any, items: list[Any]) -> None:
    """Sets keys to values; a key is a text or a whole number, since to hash nested tuples may take for ever."""
    if isinstance(target, StandIn):
        return
    if not isinstance(target, dict) or len(items) % 2:
        raise ValueError("something is set in what is no mapping")
    for key, value in zip(items[::2], items[1::2], strict=True):
        target[key if type(key) is str else _small(key)] = value
