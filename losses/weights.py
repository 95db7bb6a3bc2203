"""Finding the downloaded weights of frozen networks: explicit path, GPEN_WEIGHTS, torch hub's cache, download."""

import os
import pickle
import socket
import urllib.error
import urllib.parse
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

WEIGHTS_VARIABLE = "GPEN_WEIGHTS"
"""Environment variable naming a folder with downloaded weights."""


def packaged_models(package: str, hint: str) -> Path:
    """The folder `models` inside a package that holds weights, which is not imported; ModuleNotFoundError with a hint
    where it is not installed."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"the package {package} is not installed; {hint}")
    return Path(next(iter(spec.submodule_search_locations))) / "models"


@dataclass(frozen=True)
class WeightsFile:
    """A published file of weights."""

    name: str
    """File name in GPEN_WEIGHTS and in the cache."""
    url: str
    """Address of the file itself, or of a page to fetch it from by hand."""
    sha256: str | None
    """Beginning of its checksum, in hexadecimal digits; None means that it is never downloaded by this program."""


def find_weights(file: WeightsFile, path: Path | None = None) -> Path:
    """Finds a file of weights where the user says it is or, for None, in the folder named by the environment variable
    GPEN_WEIGHTS, then in the `checkpoints` folder of torch hub's cache, and downloads it into that cache where nothing
    else is left. FileNotFoundError where it is not there and cannot be downloaded, naming file, URL and a folder;
    ValueError where the downloaded file has another checksum."""
    if path is not None:
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not a file; download {file.name} from {file.url} and give its path")
        return path
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    named = os.environ.get(WEIGHTS_VARIABLE)
    if named and not Path(named).is_dir():
        raise FileNotFoundError(f"{WEIGHTS_VARIABLE} must name an existing folder, got {named}; create or unset it")
    folders = [Path(named), cache] if named else [cache]
    for folder in folders:
        if (folder / file.name).is_file():
            return folder / file.name
    return _download(file, cache, folders[0])


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Reads a state dict that `torch.save` wrote, or safetensors with that ending, without executing anything in it:
    tensors on the CPU, floating-point ones as float32. ValueError where the file is damaged or holds anything else."""
    try:
        is_safe = path.suffix == ".safetensors"
        tensors = load_file(path) if is_safe else torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, SafetensorError) as error:
        # Torch's own text is left out: it advises to load the file unsafely.
        raise ValueError(
            f"{path} must be a PyTorch state dict, got a damaged or other file; download it again"
        ) from error
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise ValueError(f"{path} must be a PyTorch state dict, got {type(tensors).__name__}; give another file")
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def assign_tensors(network: nn.Module, tensors: dict[str, Tensor], source: Path) -> None:
    """Puts tensors from a source into a network, whose own may be on the meta device, without a copy; only batch
    normalisation's step counters may be missing. ValueError where another one is, is left over or of another shape."""
    expected = network.state_dict()
    needed = {name for name in expected if not name.endswith(".num_batches_tracked")}
    wrong = sorted((needed - tensors.keys()) | (tensors.keys() - expected.keys()))
    wrong += [name for name in sorted(needed & tensors.keys()) if expected[name].shape != tensors[name].shape]
    if wrong:
        raise ValueError(
            f"{source} must hold the tensors of {type(network).__name__}, but {len(wrong)} of them are missing, "
            f"left over or of another shape, first {wrong[0]}; give another file"
        )
    network.load_state_dict(tensors, assign=True)


def _download(file: WeightsFile, cache: Path, folder: Path) -> Path:
    """Downloads into the cache; torch writes to a temporary file and renames it once the checksum is right."""
    missing = f"{file.name} is needed and not on this machine; download {file.url} into {folder}"
    if file.sha256 is None:
        raise FileNotFoundError(missing)
    cache.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(file.url, str(cache / file.name), hash_prefix=file.sha256, progress=False)
    except OSError as error:
        raise FileNotFoundError(f"{missing} (the attempt failed: {_reason(error, file.url)})") from error
    except RuntimeError as error:
        raise ValueError(f"{file.url} has another checksum than {file.sha256}: {error}; try again") from error
    return cache / file.name


def _reason(error: OSError, url: str) -> str:
    """Why a download failed, in words: numbers of errors help nobody."""
    host = urllib.parse.urlsplit(url).netloc
    if isinstance(error, urllib.error.HTTPError):
        return f"{host} answered {error.code}, {error.reason}"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, socket.gaierror):
        return f"no network, or no host of the name {host}"
    text = cause.strerror or str(cause) if isinstance(cause, OSError) else str(cause)
    is_connection = isinstance(error, urllib.error.URLError) or isinstance(cause, ConnectionError | TimeoutError)
    return f"{host} cannot be reached: {text}" if is_connection else text
