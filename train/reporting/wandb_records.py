"""What the files of offline runs of Weights & Biases hold; W&B itself reads them only to send them."""

import struct
from collections.abc import Iterator
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # its classes are made at import

FILE_HEADER_BYTES = 7
BLOCK_BYTES = 32768
BLOCK_HEADER = struct.Struct("<IHB")  # checksum, length, kind
WHOLE, LAST = 1, 4


def read_records(path: Path) -> Iterator[Record]:
    """Reads a `.wandb` file up to its end or to where a kill cut it off.

    Source: LevelDB's log format, https://github.com/google/leveldb/blob/main/doc/log_format.md, behind W&B's header.
    """
    content, position, parts = path.read_bytes(), FILE_HEADER_BYTES, b""
    while True:
        room = BLOCK_BYTES - position % BLOCK_BYTES
        if room < BLOCK_HEADER.size:  # too little for a header is filled with zeros
            position += room
        start = position + BLOCK_HEADER.size
        if start > len(content):
            return
        _, length, kind = BLOCK_HEADER.unpack_from(content, position)
        position = start + length
        if position > len(content):
            return
        parts += content[start:position]
        if kind in (WHOLE, LAST):
            yield Record.FromString(parts)
            parts = b""


def last_step(wandb_folder: Path) -> int:
    """The last step of the history in all offline segments of a run, -1 where there is none."""
    files = wandb_folder.glob("offline-run-*/*.wandb")
    return max((r.history.step.num for f in files for r in read_records(f) if r.HasField("history")), default=-1)
