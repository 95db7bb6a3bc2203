"""What makes a run the run it is: its resolved configuration and its photographs, without facts of the machine."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from typing import Any

from data.degradation_presets import load_preset
from train.run_record import MAY_CHANGE, flat_settings

DECIDED_ELSEWHERE = ("model.init_args.start", "model.init_args.degradation", "model.init_args.perceptual.")
"""Options whose value is a file: its content counts, or, for the networks of `perceptual`, their own checksums."""
LENGTH = "run.total_images"


def run_fingerprint(config: Mapping[str, Any], data: Mapping[str, str], start: str | None) -> str:
    """Identifies a run whatever the machine, the folders and the tracking.

    Args:
        config: Resolved: all options of `python -m train fit`.
        data: Fingerprints of the photographs.
        start: Fingerprint of what stage 2 starts from; None for nothing and in stage 1.

    Returns:
        Hexadecimal SHA-256; equal runs have equal ones. Precision counts, number of processes and threads do not.
    """
    options = flat_settings(dict(config))
    decides = {name: value for name, value in options.items() if not name.startswith((*MAY_CHANGE, *DECIDED_ELSEWHERE))}
    decides |= {name: options[name] for name in (LENGTH, "trainer.precision")}
    degradation = options.get("model.init_args.degradation")
    content = {
        "options": decides,
        "degradation": None if degradation is None else asdict(load_preset(degradation)),
        "data": dict(data),
        "start": start,
    }
    return sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
