"""Files that exist completely or not at all."""

import os
import secrets
from pathlib import Path


def write_atomically(path: Path, content: bytes | str) -> Path:
    """Writes a file under a temporary name beside its own, flushes it to the disk and renames it.

    Args:
        path: The file; its folder is made, an existing file is replaced (a link is replaced, not followed).
        content: Bytes, or text that is stored as UTF-8.

    Returns:
        The path.

    Raises:
        OSError: If the folder or the file cannot be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
