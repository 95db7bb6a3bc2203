"""Memory that is given back to the system after every operation has to be fetched page by page for the next one."""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # from malloc.h of the GNU C library
_LARGEST_MMAP_THRESHOLD = 32 * 2**20  # larger values are refused


def keep_freed_memory() -> None:
    """Tells the GNU C library to keep freed memory for the next allocation; elsewhere does nothing.

    Training on CPUs allocates and frees every activation in each step. Measured on stage 1 at 64 pixels (batch 16,
    bf16, two cores): 0.26 s instead of 0.31 s per forward and backward pass.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return
    library.mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    library.mallopt(_TOP_PAD, 2**28)
