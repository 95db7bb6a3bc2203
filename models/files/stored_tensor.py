"""Tensors that still lie in their file: looked at by shape, read when they are wanted."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

LARGEST_SIZE = 2**40
"""Of a dimension; hostile files hold any number."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]
    packed_bytes: int | None = None
    """What the values take in the file where that is less than in memory."""

    @property
    def size_bytes(self) -> int:
        """What the values take, as stored."""
        return math.prod(self.shape) * self.dtype.itemsize if self.packed_bytes is None else self.packed_bytes

    def reshape(self, shape: tuple[int, ...]) -> "StoredTensor":
        """Gives the same values in another shape."""
        return StoredTensor(shape, self.dtype, lambda: self.read().reshape(shape), self.packed_bytes)


@dataclass
class Storage:
    """Numbers in a file, which tensors are views of."""

    dtype: torch.dtype
    length: int
    read_bytes: Callable[[int, int], bytearray] | None = None
    """Reads so many bytes from a position on; known once the place of the storage in the file is."""

    def view(self, offset: object, shape: object, stride: object) -> StoredTensor:
        """A tensor whose numbers lie here, from an offset on; strides in numbers. Raises ValueError where it reaches
        beyond the storage, or what is given are no sizes."""
        sizes, steps = _sizes(shape), _sizes(stride)
        (start,) = _sizes((offset,))
        if math.prod(sizes) >= LARGEST_SIZE:
            raise ValueError("a tensor must have fewer than 2^40 values")
        if len(sizes) != len(steps):
            raise ValueError(f"a tensor has {len(sizes)} dimensions and {len(steps)} strides")
        reach = sum((size - 1) * step for size, step in zip(sizes, steps, strict=True)) + 1 if all(sizes) else 0
        if start + reach > self.length:
            raise ValueError(f"a tensor reaches to {start + reach}, its storage has {self.length} numbers")

        def read() -> Tensor:
            if not reach or self.read_bytes is None:
                return torch.zeros(sizes, dtype=self.dtype)
            size_bytes = self.dtype.itemsize
            values = torch.frombuffer(self.read_bytes(start * size_bytes, reach * size_bytes), dtype=self.dtype)
            return values.as_strided(sizes, steps)

        return StoredTensor(sizes, self.dtype, read)


def _sizes(numbers: object) -> tuple[int, ...]:
    """Checked before anything is done with them: they may be of any type and size."""
    if not isinstance(numbers, tuple | list) or len(numbers) > 8:
        raise ValueError("a shape must be a few numbers")
    if not all(type(number) is int and 0 <= number < LARGEST_SIZE for number in numbers):
        raise ValueError("a shape must be of whole numbers")
    return tuple(numbers)


def copy_tensors(state: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Reads the tensors of a state dict as contiguous float32; ValueError where an entry is no ordinary floating
    tensor, or the tensors are larger than the file: a few bytes repeated to gigabytes."""
    for name, tensor in state.items():
        if not isinstance(tensor, StoredTensor) or not tensor.dtype.is_floating_point:
            raise ValueError(f"{path} is damaged: {name[:100]} is no ordinary tensor of floating-point numbers")
    size_bytes = sum(tensor.size_bytes for tensor in state.values())
    if size_bytes > path.stat().st_size:
        raise ValueError(f"{path} is damaged: its tensors take {size_bytes} bytes, more than the file has")
    return {name: tensor.read().to(torch.float32).contiguous() for name, tensor in state.items()}
