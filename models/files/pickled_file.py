"""What `torch.save` wrote, from anyone: nothing in it is executed, and it cannot take more memory than it has bytes."""

import pickletools
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

ZIP_MAGIC_BYTES = b"PK\x03\x04"
LEGACY_MAGIC_BYTES = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""First bytes of what `torch.save` writes: a zip archive, before PyTorch 1.6 a pickled number."""

_NUM_LEGACY_PICKLES = 5  # magic number, protocol, system, content, keys of the storages
_HARMLESS = re.compile(
    r"collections\.OrderedDict|torch\._utils\._rebuild_(tensor|tensor_v2|parameter)|torch\.nn\.parameter\.Parameter|"
    r"torch\.(\w+Storage|storage\.(Typed|Untyped)Storage|Size|device|float16|bfloat16|float32|float64)"
)
"""What state dicts and our checkpoints are made of. PyTorch allows more, such as `bytearray(10**11)`."""


def read_pickled(path: Path) -> Mapping[str, Any]:
    """Reads a file that begins with one of the magic bytes.

    Args:
        path: An existing file.

    Returns:
        What was saved. Tensors may still lie in the file: copy those that are needed, see `copy_tensors`.

    Raises:
        ValueError: The file is damaged, holds anything that could run code or something else than a mapping.
    """
    try:
        with path.open("rb") as file:
            is_zip = file.read(len(ZIP_MAGIC_BYTES)) == ZIP_MAGIC_BYTES
            file.seek(0)
            found = _globals_of_zip(file) if is_zip else _globals_of_legacy(file)
    except Exception as error:  # damaged archives and pickles fail in a dozen ways
        raise ValueError(f"{path} is truncated, damaged or no checkpoint") from error
    dangerous = sorted(name for name in found if not _HARMLESS.fullmatch(name))
    if dangerous:
        raise ValueError(
            f"{path} holds {', '.join(dangerous[:3])[:100]}, which could run code when it is loaded; nothing of it was "
            "run, and the file is refused"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # the same
        raise ValueError(f"{path} is truncated, damaged or no checkpoint") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}")
    return content


def copy_tensors(state: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Copies the tensors of a state dict out of their file.

    Args:
        state: Name to tensor, of any floating type.
        path: Where they come from.

    Returns:
        The same as contiguous float32.

    Raises:
        ValueError: An entry is no ordinary floating tensor, or the tensors are larger than the file: a few bytes
            repeated to gigabytes.
    """
    size_bytes = 0
    for name, tensor in state.items():
        ordinary = isinstance(tensor, Tensor) and tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not ordinary or not tensor.is_floating_point():
            raise ValueError(f"{path} is damaged: {str(name)[:100]} is no ordinary tensor of floating-point numbers")
        size_bytes += tensor.numel() * tensor.element_size()
    if size_bytes > path.stat().st_size:
        raise ValueError(f"{path} is damaged: its tensors take {size_bytes} bytes, more than the file has")
    return {name: tensor.detach().to(torch.float32, copy=True).contiguous() for name, tensor in state.items()}


def _globals_of_zip(file: IO[bytes]) -> set[str]:
    """What the pickle of a zip archive imports; all members are stored, so that none is larger than the file."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if any(m.compress_type != zipfile.ZIP_STORED or m.file_size != m.compress_size for m in members):
            raise ValueError("PyTorch stores its records without compression")
        (pickled,) = [member for member in members if member.filename.endswith("/data.pkl")]
        with archive.open(pickled) as member:
            return _globals_of_pickle(member)


def _globals_of_legacy(file: IO[bytes]) -> set[str]:
    """What the pickles at the beginning of a file from before PyTorch 1.6 import."""
    return set().union(*(_globals_of_pickle(file) for _ in range(_NUM_LEGACY_PICKLES)))


def _globals_of_pickle(file: IO[bytes]) -> set[str]:
    """Names that one pickle imports."""
    found, texts = set(), [""]
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in ("GLOBAL", "INST"):
            found.add(str(argument).replace(" ", "."))
        elif opcode.name == "STACK_GLOBAL":  # takes module and name from the stack, as a rule the last two texts
            found.add(".".join(texts[-2:]))
        elif isinstance(argument, str):
            texts = [texts[-1], argument]
    return found
