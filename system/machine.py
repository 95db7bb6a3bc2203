"""The machine that a program runs on: processor, versions, code, and the precisions that it computes natively."""

import ctypes
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from system.wording import counted

ROOT = Path(__file__).resolve().parents[1]
FLOAT32, BF16 = "32-true", "bf16-mixed"
"""Precisions of training, in Lightning's words."""
AUTO = "auto"
"""Precision of training that stands for the one that `fastest_precision` names."""
EXTENSIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "bf16", "svebf16")
"""What convolutions depend on, in the words of /proc/cpuinfo (the last two are of Arm)."""
X86_BF16, ARM_BF16 = {"avx512_bf16", "amx_bf16"}, {"bf16", "svebf16"}
ISA_WITHOUT_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")
"""Values of oneDNN's variable ONEDNN_MAX_CPU_ISA that keep it from AVX-512's and AMX's bf16."""


@dataclass(frozen=True)
class Precision:
    """A precision and why it was taken."""

    name: str
    """32-true or bf16-mixed."""
    reason: str
    """Part of a sentence, such as "this processor computes bf16 natively (amx_bf16)"."""


def processor() -> str:
    """Name, family, vector extensions and usable cores: the bits of sums and all times depend on them."""
    fields = _processor_fields()
    name = fields.get("model name") or platform.processor() or platform.machine()
    kind = f"family {fields['cpu family']}, model {fields['model']}; " if {"cpu family", "model"} <= set(fields) else ""
    return f"{name} ({kind}{', '.join(_extensions()) or 'no extensions known'}), {counted(num_cores(), 'core')}"


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Versions of Python and of packages by name; "not installed" where there is none."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def code_state() -> dict[str, Any]:
    """Commit of this code as `git_commit`, "unknown" without git, and as `git_dirty` whether files were changed."""
    commit = _git("rev-parse", "HEAD")
    return {
        "git_commit": commit,
        "git_dirty": bool(_git("status", "--porcelain", "--untracked-files=no")) if commit != "unknown" else None,
    }


def native_precisions(on_gpu: bool = False) -> tuple[str, ...]:
    """Precisions that the processor, or the GPU, computes in its own units, without emulation.

    A processor says so by its flags; ONEDNN_MAX_CPU_ISA and ATEN_CPU_CAPABILITY, which hold PyTorch back, count. A GPU
    says so by its compute capability (8.0 and above).
    """
    has_bf16 = _has_gpu_bf16() if on_gpu else bool(_bf16_extensions())
    return (FLOAT32, BF16) if has_bf16 else (FLOAT32,)


def fastest_precision(on_gpu: bool = False) -> Precision:
    """The precision to train in on this machine: bf16 where it is native, measured where flags do not settle it."""
    if BF16 not in native_precisions(on_gpu):
        return Precision(FLOAT32, f"this {'GPU' if on_gpu else 'processor'} has no units for bf16")
    if on_gpu:
        return Precision(BF16, "this GPU computes bf16 natively")
    extensions = _bf16_extensions()
    if X86_BF16 & set(extensions):
        return Precision(BF16, f"this processor computes bf16 natively ({', '.join(extensions)})")
    factor = bf16_factor()  # of Arm: the instructions are there, but not every PyTorch uses them
    return Precision(BF16 if factor < 0.9 else FLOAT32, f"bf16 takes {factor:.2g} times as long as float32 here")


@cache
def bf16_factor(on_gpu: bool = False) -> float:
    """Time of convolutions, forward and backward, in bf16 divided by that in float32; less than a second, once in a
    process."""
    import torch  # here, as most commands that name a machine need no networks

    device = "cuda" if on_gpu else "cpu"
    images = torch.ones(1, 64, 32, 32, device=device).to(memory_format=torch.channels_last).requires_grad_()
    weight = torch.ones(64, 64, 3, 3, device=device).to(memory_format=torch.channels_last).requires_grad_()

    def seconds(is_bf16: bool) -> float:
        best = float("inf")
        for _ in range(4):  # the first one prepares kernels
            start = time.perf_counter()
            with torch.enable_grad(), torch.autocast(device, torch.bfloat16, enabled=is_bf16):
                once = torch.nn.functional.conv2d(images, weight, padding=1)
                twice = torch.nn.functional.conv2d(once, weight, padding=1)
            gradients = torch.autograd.grad(twice.float().mean(), [images, weight])
            gradients[1].sum().item()  # waits for a GPU
            best = min(best, time.perf_counter() - start)
        return best

    return seconds(True) / seconds(False)


def _bf16_extensions() -> list[str]:
    limit = (os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "").upper()
    is_held_back = limit in ISA_WITHOUT_BF16 or os.environ.get("ATEN_CPU_CAPABILITY") in ("default", "avx2")
    return [] if is_held_back else [name for name in _extensions() if name in X86_BF16 | ARM_BF16]


def _has_gpu_bf16() -> bool:
    import torch

    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def _extensions() -> list[str]:
    fields = _processor_fields()
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    return [name for name in EXTENSIONS if name in flags]


@cache
def _processor_fields() -> dict[str, str]:
    """What Linux says about the first core; empty elsewhere."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text(errors="replace").partition("\n\n")[0].splitlines() if information.is_file() else []
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # from malloc.h of the GNU C library
_MADV_HUGEPAGE = 14  # from Linux' mman.h
_HUGE_PAGE, _IN_HUGE_PAGES = 2**21, 2**33


def keep_freed_memory() -> None:
    """Tells the GNU C library to keep freed memory for the next allocation, the first 8 GiB of it in huge pages where
    the kernel has them; elsewhere does nothing.

    Training on CPUs allocates and frees every activation in each step. Without this, tensors above 32 MB are mapped
    anew each time: a multiplication of 34 MB took 9.3 ms instead of 1.0 ms (two cores). Convolutions read rows that lie
    far apart: with small pages, most reads would look one up.
    """
    library = _glibc()
    if library is not None:
        library.mallopt(_MMAP_MAX, 0)
        library.mallopt(_TRIM_THRESHOLD, -1)  # never
        library.mallopt(_TOP_PAD, 2**28)
        library.malloc.restype = ctypes.c_void_p
        block = library.malloc(ctypes.c_size_t(_IN_HUGE_PAGES))  # addresses only: nothing is touched
        if block is not None:
            first = -(-block // _HUGE_PAGE) * _HUGE_PAGE
            size = ctypes.c_size_t(_IN_HUGE_PAGES - _HUGE_PAGE)
            library.madvise(ctypes.c_void_p(first), size, _MADV_HUGEPAGE)
            library.free(ctypes.c_void_p(block))


def give_back_freed_memory() -> None:
    """Returns what was freed so far to the system, once; elsewhere does nothing."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") else None
