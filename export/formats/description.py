"""What a file of weights is, in a few lines: ours or foreign, checkpoint or exported model."""

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from export.static.graph import count_cost
from inference.restorers import load_restorer
from models import GPEN, Prior, StoredNetworks, read_checkpoint
from models.files.checkpoints import StoredDiscriminator, read_discriminator
from models.files.run_folder import find_checkpoint
from system.plain_yaml import read_yaml

LICENCES = {
    "public GPEN checkpoint": "public GPEN weights come without a licence; ask their authors before you publish them",
    "StyleGAN2 checkpoint": "not in the file; conversions of NVIDIA's weights keep NVIDIA's non-commercial licence",
    "NVIDIA StyleGAN2 pickle": "NVIDIA's licence: research and evaluation only, not commercial",
    "Lightning checkpoint": "yours, as far as the terms of the training faces allow",
}


def describe_checkpoint(path: Path) -> dict[str, str]:
    """Says what a file is.

    Args:
        path: Any file that `models.read_checkpoint` or `inference.restorers.load_restorer` knows, or a run's folder.

    Returns:
        Name of a property to its value, in the order in which they are to be read.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is none that this project knows, or damaged.
    """
    path = find_checkpoint(path)
    try:
        stored = read_checkpoint(path)
    except ValueError as error:
        found = _describe_other(path)
        if found is None:
            raise error
        return found
    facts = {"file": path.name, "kind": stored.card.get("origin", "release file of this project")}
    facts |= {"network": {"gpen": "GPEN, a restorer", "prior": "prior, a generator of faces"}[stored.kind]}
    facts |= _facts_of_network(stored)
    facts |= {name: text for name, text in stored.card.items() if name != "origin"}
    facts |= _facts_of_run(path)
    facts["discriminator"] = _word_for_discriminator(stored)
    if stored.notes:
        facts["read"] = "; ".join(stored.notes)
    facts["licence"] = stored.card.get("licence", LICENCES.get(stored.card.get("origin", ""), "see the model card"))
    return facts


def _describe_other(path: Path) -> dict[str, str] | None:
    """An exported model or a discriminator alone; None where it is neither."""
    if path.suffix.lower() == ".onnx" or path.name.endswith(".torchscript.pt"):
        restorer = load_restorer(path)
        facts = {"file": path.name, "kind": restorer.description, "resolution": f"{restorer.resolution} pixels"}
        if restorer.architecture is not None:
            facts["architecture"] = _words(asdict(restorer.architecture))
        return facts
    try:
        judge = read_discriminator(path)
    except ValueError:
        return None
    if judge is None:
        return None
    channels = _channels(judge)
    return {"file": path.name, "kind": "a discriminator alone", "channels from 4×4 upwards": channels}


def _facts_of_network(stored: StoredNetworks) -> dict[str, str]:
    architecture = stored.architecture
    with torch.device("meta"):
        network = (GPEN if stored.kind == "gpen" else Prior)(architecture)
    facts = {
        "architecture": _words(asdict(architecture)),
        "parameters": f"{sum(p.numel() for p in network.parameters()):,}",
    }
    if stored.kind == "gpen" and architecture.encoder_resolution is None:
        facts["FLOPs"] = f"{count_cost(architecture).flops / 1e9:.1f} G for one face"
    broken = [name for name, tensor in stored.generator.items() if not torch.isfinite(tensor).all()]
    facts["tensors"] = f"{len(stored.generator)}, complete, " + (
        f"values that are not finite in {broken[0]}" if broken else "all values finite"
    )
    return facts


def _facts_of_run(path: Path) -> dict[str, str]:
    """Recipe, data and last figures of the run whose checkpoint this is; nothing for a file that left its run."""
    run = path.parent.parent
    if path.parent.name != "checkpoints" or not (run / "run.json").is_file() or not (run / "config.yaml").is_file():
        return {}
    config = read_yaml(run / "config.yaml")
    try:
        data = _part(json.loads((run / "run.json").read_text(encoding="utf-8")), "data")
    except ValueError as error:
        raise ValueError(f"{run / 'run.json'} is no JSON ({error}); put a copy back") from error
    options = _part(_part(config, "model"), "init_args")
    recipe: dict[str, Any] = {
        name: options[name] for name in ("degradation", "loss_weights", "optimization") if name in options
    }
    facts = {
        "recipe": _words(recipe),
        "trained with": _words({n: _part(config, g).get(n) for g, n in (("run", "seed"), ("data", "batch_size"))}),
        "data": _words(data),
    }
    table = run / "validation.csv"
    if table.is_file():
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if rows:
            facts["last validation"] = _words(rows[-1])
            facts["protocol"] = f"fixed degraded faces of the run, preset {options.get('degradation', 'none')}"
    return facts


def _part(values: Any, name: str) -> dict[str, Any]:
    """A group of values; an empty one where a file of a run has none."""
    found = values.get(name) if isinstance(values, dict) else None
    return found if isinstance(found, dict) else {}


def _word_for_discriminator(stored: StoredNetworks) -> str:
    try:
        judge = stored.discriminator
    except ValueError as error:
        return f"unusable: {str(error).removeprefix(str(stored.path)).lstrip(': ')}"
    return "none" if judge is None else f"{len(judge.tensors)} tensors, channels {_channels(judge)} from 4×4 upwards"


def _channels(judge: StoredDiscriminator) -> str:
    return ", ".join(str(judge.architecture.channels(r)) for r in judge.architecture.resolutions)


def _words(values: dict[str, Any]) -> str:
    """A mapping in one line; groups in it in brackets, what is null left out."""
    parts = []
    for name, value in values.items():
        if value is not None:
            text = f"({_words(value)})" if isinstance(value, dict) else str(value)
            parts.append(f"{name.replace('_', ' ')} {text}")
    return ", ".join(parts)
