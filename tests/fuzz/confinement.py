"""Processes that can change nothing outside of one folder, whatever they are asked."""

import ctypes
import os
import platform
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""System calls of Linux's Landlock, of the same numbers on x86-64 and arm64."""
ASK_VERSION, RULE_BENEATH, NO_NEW_PRIVILEGES = 1, 1, 38
WRITE_FILE, TRUNCATE = 1 << 1, 1 << 14
CHANGES = WRITE_FILE | TRUNCATE | sum(1 << bit for bit in range(4, 14))
"""Writing, cutting off, removing, making anything and moving it to another folder."""
OLDEST_VERSION = 3
"""The first that knows all `CHANGES`, of Linux 6.2."""


class _Ruleset(ctypes.Structure):
    _fields_ = (("handled_access_fs", ctypes.c_uint64),)


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def can_confine() -> bool:
    """Whether this machine's kernel can hold a process in a folder."""
    if platform.system() != "Linux":
        return False
    return int(ctypes.CDLL(None).syscall(CREATE_RULESET, None, 0, ASK_VERSION)) >= OLDEST_VERSION


def confine(folder: Path) -> None:
    """Lets the kernel refuse (EACCES) whatever this process and those that it starts would change outside of a folder,
    of /dev/null and of shared memory, for good.

    Raises:
        OSError: The kernel has no Landlock, or not all of it.
    """
    if not can_confine():
        raise OSError(
            "wrong command lines are tried only where the kernel keeps them in a folder: Landlock of Linux 6.2"
        )
    ruleset = _Ruleset(CHANGES)
    rules = _call(CREATE_RULESET, ctypes.byref(ruleset), ctypes.sizeof(ruleset), 0)
    for path, access in ((folder, CHANGES), (Path("/dev/shm"), CHANGES), (Path(os.devnull), WRITE_FILE | TRUNCATE)):
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        _call(ADD_RULE, rules, RULE_BENEATH, ctypes.byref(_Beneath(access, place)), 0)
        os.close(place)
    ctypes.CDLL(None).prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _call(RESTRICT_SELF, rules, 0)
    os.close(rules)


def _call(*arguments: object) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    result = int(library.syscall(*arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
