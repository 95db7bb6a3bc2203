"""Anything that restores faces behind one call: checkpoints, release files, TorchScript and ONNX."""

import hashlib
import json
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from models import Architecture, build_generator, read_checkpoint
from models.files.run_folder import find_checkpoint
from system.paths import check_there

METADATA_NAME = "gpen-trainer.json"
"""Name of the entry with the architecture, in the TorchScript archive and in ONNX's metadata."""


@contextmanager
def accepted_deprecations() -> Iterator[None]:
    """Silences PyTorch's notices that TorchScript and its ONNX exporter are deprecated, and nothing else.

    They are what the targets need: VACC's compiler reads TorchScript only, and the exporter that replaces them writes
    opset 18 whatever lower one is asked for.
    """
    with warnings.catch_warnings():
        # A DeprecationWarning of torch 2.11, a FutureWarning of 2.14.
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", Warning)
        warnings.filterwarnings("ignore", "You are using the legacy TorchScript-based ONNX export", DeprecationWarning)
        warnings.filterwarnings("ignore", "The feature will be removed", DeprecationWarning)
        yield


@dataclass(frozen=True)
class Restorer:
    """A network that restores aligned faces, wherever it came from."""

    resolution: int
    """R, height and width of the faces in pixels."""
    description: str
    """What it is, in one line for reports."""
    device: torch.device
    run: Callable[[Tensor], Tensor]
    """float32 [N, 3, R, R] on the device to the restored faces, unchecked; call the restorer itself instead."""
    architecture: Architecture | None
    """Architecture of the network; None for an ONNX file that does not say."""

    @torch.no_grad()
    def __call__(self, degraded: Tensor) -> Tensor:
        """Restores faces [N, 3, R, R] float32 in [-1, 1], on any device: the same shape, about [-1, 1], not clipped, on
        the restorer's device. ValueError where shape or type is another."""
        wanted = (3, self.resolution, self.resolution)
        if degraded.ndim != 4 or tuple(degraded.shape[1:]) != wanted or degraded.dtype != torch.float32:
            raise ValueError(
                f"faces must be float32 [N, 3, {self.resolution}, {self.resolution}] in [-1, 1], got "
                f"{degraded.dtype} {list(degraded.shape)}; resize them to the resolution of the model"
            )
        return self.run(degraded.to(self.device))


def load_restorer(path: Path | str, device: torch.device | str = "cpu") -> Restorer:
    """Loads whatever restores faces: an ONNX file (.onnx) or TorchScript archive written by `python -m export`, or any
    checkpoint that `models.load_generator` reads, a run's folder among them; onto a device such as `cpu` or `cuda:0`,
    ONNX onto the CPU only. FileNotFoundError where there is no such file, ValueError where it is something else or
    damaged, or the device cannot be used."""
    path = _existing(Path(path))
    device = _usable_device(device)
    if is_exported(path):
        return (_load_onnx if path.suffix.lower() == ".onnx" else _load_torchscript)(path, device)
    stored = read_checkpoint(path)
    generator = build_generator(stored).to(device).requires_grad_(False)
    architecture = generator.architecture
    words = ", ".join((_words(architecture), path.name, *stored.notes))
    return Restorer(architecture.resolution, words, device, generator, architecture)


def _existing(path: Path) -> Path:
    """The file that a path stands for: a run's folder, `best` and `last` stand for checkpoints."""
    if path.is_dir() and not (path / "checkpoints").is_dir() and not (path / "run.json").is_file():
        raise ValueError(f"{path} is a folder; name one of the files in it")
    check_there(path, "checkpoint or exported model")
    return find_checkpoint(path)


def default_device(path: Path) -> str:
    """A GPU if there is one that can run the file, else the CPU; ONNX files run on the CPU only."""
    return "cuda" if torch.cuda.is_available() and path.suffix.lower() != ".onnx" else "cpu"


def file_digest(path: Path) -> str:
    """SHA-256 of a checkpoint or exported model; FileNotFoundError where there is none."""
    with _existing(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _usable_device(device: torch.device | str) -> torch.device:
    """The device, after one allocation on it."""
    try:
        device = torch.device(device)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: PyTorch was built without CUDA
        reason = str(error).splitlines()[0]
        raise ValueError(f"the device {device} cannot be used ({reason}); use cpu or a GPU of this machine") from error
    return device


def is_exported(path: Path) -> bool:
    """Whether a file is ONNX by its name, or a TorchScript archive; checkpoints are zip files too, but hold no code."""
    if path.suffix.lower() == ".onnx":
        return True
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.split("/", 1)[-1] for name in archive.namelist()]
    except zipfile.BadZipFile:
        return False
    return "constants.pkl" in names and any(name.startswith("code/") for name in names)


def _load_torchscript(path: Path, device: torch.device) -> Restorer:
    """A trace of ours; it was made for one image but runs any number."""
    extra = {METADATA_NAME: ""}
    try:
        with accepted_deprecations():
            network = torch.jit.load(path, map_location=device, _extra_files=extra)
    except RuntimeError as error:
        raise ValueError(f"{path} is a damaged TorchScript file ({str(error).splitlines()[0]})") from error
    architecture = _architecture(path, extra[METADATA_NAME], "TorchScript")
    words = f"{_words(architecture)}, TorchScript {path.name}"
    return Restorer(architecture.resolution, words, device, network, architecture)


LARGEST_ONNX_BYTES = 2**33
"""What the values of ONNX files may take in a process; a network of 2048 pixels stays below half of it."""


@cache
def _bound_memory() -> None:
    """Gives all sessions one allocator that refuses what is beyond `LARGEST_ONNX_BYTES`."""
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(memory, onnxruntime.OrtArenaCfg({"max_mem": LARGEST_ONNX_BYTES}))


def _load_onnx(path: Path, device: torch.device) -> Restorer:
    """An ONNX file, run on one image at a time; of several outputs the first counts."""
    if device.type != "cpu":
        raise ValueError(f"ONNX files run on the CPU only here, got device {device}; use the TorchScript file instead")
    _bound_memory()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what it has to say comes as an exception too
    options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no parent of their own
        raise ValueError(f"{path} is no ONNX file that onnxruntime can run ({str(error).splitlines()[0]})") from error
    resolution = _fixed_resolution(path, session)
    source, result = session.get_inputs()[0], session.get_outputs()[0]
    kind = np.float16 if source.type == "tensor(float16)" else np.float32

    def run(degraded: Tensor) -> Tensor:
        faces = [np.ascontiguousarray(face, dtype=kind) for face in degraded.numpy()[:, None]]  # N of [1, 3, R, R]
        try:
            restored = [session.run([result.name], {source.name: face})[0].astype(np.float32) for face in faces]
        except Exception as error:  # values that are too large, or operators that fail on them
            reason = str(error).splitlines()[0].rpartition("*) ")[2][:200]  # without the place in onnxruntime's code
            raise ValueError(f"{path} fails when it restores a face ({reason})") from error
        return torch.from_numpy(np.concatenate(restored)) if restored else degraded

    text = session.get_modelmeta().custom_metadata_map.get(METADATA_NAME, "")
    architecture = _architecture(path, text, "ONNX") if text else None
    words = _words(architecture) if architecture else f"Network for {resolution} pixels"
    return Restorer(resolution, f"{words}, ONNX {path.name}", device, run, architecture)


def _fixed_resolution(path: Path, session: onnxruntime.InferenceSession) -> int:
    """R of a session that maps images [1 or any, 3, R, R] to others by its first output."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    resolution = inputs[0].shape[-1] if inputs and inputs[0].shape else None
    problems = [] if len(inputs) == 1 else [f"{len(inputs)} inputs"]
    if not isinstance(resolution, int):
        problems.append(f"the size of its input is not fixed ({inputs[0].shape if inputs else 'no input'})")
    for word, value in [*(("input", x) for x in inputs[:1]), *(("first output", x) for x in outputs[:1])]:
        if value.type not in ("tensor(float)", "tensor(float16)"):
            problems.append(f"its {word} is {value.type.removeprefix('tensor(').removesuffix(')')}")
        is_single = len(value.shape) == 4 and (value.shape[0] == 1 or not isinstance(value.shape[0], int))
        if not is_single or list(value.shape[1:]) != [3, resolution, resolution]:
            problems.append(f"the shape of its {word} is {value.shape}")
    if problems or resolution is None:
        raise ValueError(
            f"{path} must map one float32 image [1, 3, R, R] (or float16) to another, but {'; '.join(problems)}; "
            "export it again"
        )
    return int(resolution)


def _architecture(path: Path, text: str | bytes, kind: str) -> Architecture:
    if not text:
        raise ValueError(
            f"{path} is a {kind} file that does not say what it restores; export it with python -m export, or pass the "
            "checkpoint"
        )
    try:
        return Architecture(**json.loads(text))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is a damaged {kind} file ({error})") from error


def _words(architecture: Architecture) -> str:
    return (
        f"GPEN {architecture.resolution} (channel multiplier {architecture.channel_multiplier}, narrow "
        f"{architecture.narrow:g}, noise {architecture.noise_mode})"
    )
