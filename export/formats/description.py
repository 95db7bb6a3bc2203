"""What a file of weights is, in a few lines: ours or foreign, checkpoint or exported model."""

import json
import math
from collections import Counter
from pathlib import Path

import onnx
import torch
from torch.utils.flop_counter import FlopCounterMode

from evaluation.reports.tables import read_rows
from inference.restorers import is_exported, load_restorer
from models import GPEN, Architecture, Prior, StoredNetworks, read_checkpoint
from models.files.checkpoints import StoredDiscriminator, read_discriminator
from models.files.release_file import Kind
from models.files.run_folder import find_checkpoint, read_config, read_record, run_of
from system.wording import counted, listed

LICENCES = {
    "public GPEN checkpoint": "public GPEN weights come without a licence; ask their authors before you publish them",
    "StyleGAN2 checkpoint": "not in the file; conversions of NVIDIA's weights keep NVIDIA's non-commercial licence",
    "NVIDIA StyleGAN2 pickle": "NVIDIA's licence: research and evaluation only, not commercial",
    "Lightning checkpoint": "yours, as far as the terms of the training faces allow",
    "exported model": "not in the file; that of the weights it was exported from",
}


def describe_checkpoint(path: Path) -> dict[str, str]:
    """Says what a file that `models.read_checkpoint` or `inference.restorers.load_restorer` knows, or a run's folder,
    is: name of a property to its value, of one line or several, in the order in which they are to be read.
    FileNotFoundError where there is no such file, ValueError where it is none that this project knows, or damaged."""
    path = find_checkpoint(path)
    if is_exported(path):
        return _describe_exported(path)
    try:
        stored = read_checkpoint(path)
    except ValueError as error:
        return _describe_discriminator(path, error)
    origin = stored.card.get("origin", "")
    facts = {"file": path.name, "kind": origin or "release file of this project"}
    facts["network"] = {"gpen": "GPEN, a restorer", "prior": "prior, a generator of faces"}[stored.kind]
    facts |= _facts_of_network(stored.kind, stored.architecture)
    broken = [name for name, tensor in stored.generator.items() if not torch.isfinite(tensor).all()]
    values = f"values that are not finite in {broken[0]}" if broken else "all values finite"
    facts["tensors"] = f"{len(stored.generator)}, complete, {values}"
    facts |= {name: _lines(text) for name, text in stored.card.items() if name != "origin"}
    facts |= _facts_of_run(path)
    facts["discriminator"] = _word_for_discriminator(stored)
    if stored.notes:
        facts["read"] = "; ".join(stored.notes)
    facts["licence"] = stored.card.get("licence", LICENCES.get(origin, "what the data above allow; see the model card"))
    return facts


def _lines(text: str) -> str:
    """What a model card says; of a list of texts a line for each."""
    if not text.startswith("["):
        return text
    try:
        return "\n".join(["", *map(str, json.loads(text))])
    except ValueError:
        return text


def _describe_exported(path: Path) -> dict[str, str]:
    restorer = load_restorer(path)
    facts = {"file": path.name, "kind": restorer.description, "resolution": f"{restorer.resolution} pixels"}
    if path.suffix.lower() == ".onnx":
        model = onnx.load(path, load_external_data=False)
        (opset,) = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
        batch = model.graph.input[0].type.tensor_type.shape.dim[0]
        facts["opset"] = f"{opset}, {batch.dim_value or 'any number of'} face{'s' * (batch.dim_value != 1)} at a time"
        values: Counter[str] = Counter()
        for tensor in model.graph.initializer:
            values[onnx.TensorProto.DataType.Name(tensor.data_type).lower()] += math.prod(tensor.dims)
        facts["constants"] = ", ".join(f"{number:,} {kind}" for kind, number in values.most_common())
    if restorer.architecture is not None:
        facts |= _facts_of_network("gpen", restorer.architecture)
    return facts | {"licence": LICENCES["exported model"]}


def _describe_discriminator(path: Path, error: ValueError) -> dict[str, str]:
    """A discriminator alone; raises the error where the file is none."""
    try:
        judge = read_discriminator(path)
    except ValueError:
        raise error from None
    if judge is None:
        raise error
    return {"file": path.name, "kind": "a discriminator alone", "channels from 4×4 upwards": _channels(judge)}


def _facts_of_network(kind: Kind, architecture: Architecture) -> dict[str, str]:
    size = architecture.resolution
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        if kind == "gpen":
            network: GPEN | Prior = GPEN(architecture)
            network(torch.empty(1, 3, size, size))
        else:
            network = Prior(architecture)
            noises = [torch.empty(1, *shape) for shape in network.synthesis.noise_shapes()]
            network(torch.empty(1, architecture.style_dim), noises)
    return {
        "architecture": architecture.in_words(),
        "parameters": f"{sum(p.numel() for p in network.parameters()):,}",
        "FLOPs": f"{counter.get_total_flops() / 1e9:.1f} G for one face",
    }


def _facts_of_run(path: Path) -> dict[str, str]:
    """Recipe, data and last figures of the run whose checkpoint this is; nothing for a file that left its run."""
    run = run_of(path)
    if run is None:
        return {}
    config, record = read_config(run), read_record(run)
    options = config.get("model", {}).get("init_args", {})
    recipe = {name: options[name] for name in ("degradation", "loss_weights", "optimization") if name in options}
    facts = {
        "recipe": listed(recipe),
        "trained with": listed({"seed": config["run"].get("seed"), "batch_size": config["data"].get("batch_size")}),
        "data": listed(record["data"]),
    }
    for images_seen, cells in list(read_rows(run / "validation.csv").items())[-1:]:
        facts["last validation"] = listed({"images_seen": images_seen, **cells})
        facts["protocol"] = f"fixed degraded faces of the run, preset {options.get('degradation', 'none')}"
    return facts


def _word_for_discriminator(stored: StoredNetworks) -> str:
    try:
        judge = stored.discriminator
    except ValueError as error:
        return f"unusable: {str(error).removeprefix(str(stored.path)).lstrip(': ')}"
    if judge is None:
        return "none"
    return f"{counted(len(judge.tensors), 'tensor')}, channels {_channels(judge)} from 4×4 upwards"


def _channels(judge: StoredDiscriminator) -> str:
    return ", ".join(str(judge.architecture.channels(r)) for r in judge.architecture.resolutions)
