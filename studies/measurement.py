"""Measuring networks on the same faces, each once: results that are complete already are recognised."""

import csv
import json
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from data.faces.files import fingerprint, print_left_out
from evaluation.metrics.choice import Metrics, choose_metrics
from evaluation.metrics.forms import ALL_METRICS
from evaluation.protocol import Evaluation, Evaluator
from evaluation.reports.tables import write_evaluation
from inference.restorers import Restorer, default_device, file_digest, load_restorer
from studies.request import MeasurementSettings
from system.live_progress import OnProgress, OnStep, ignore_step

MEASURING = "measuring faces"
MOST_KEPT_BYTES = 2**30
"""Pairs that need more are read and degraded anew for every network."""


def evaluate_restorer(
    restorer: Restorer, checkpoint: Path, evaluator: Evaluator, folder: Path, on_progress: OnProgress
) -> Evaluation:
    """Measures a restorer, read from a checkpoint that the protocol names by its checksum, and writes metrics.json,
    per_image.csv and best_worst.png, replacing earlier results. ValueError where a face cannot be read, or the restored
    faces cannot be compared with their targets."""
    evaluation = evaluator.evaluate(restorer, on_progress=on_progress)
    named = replace(evaluation.protocol, model=restorer.description, model_sha256=file_digest(checkpoint))
    evaluation = replace(evaluation, protocol=named)
    write_evaluation(folder, evaluation)
    return evaluation


class Measurer:
    """Measures one network after another on clean aligned faces; these, degraded images and the networks of metrics are
    loaded once. `on_step` is told how many faces are done of those that were expected. Raises FileNotFoundError or
    ValueError where faces or presets are missing or damaged."""

    def __init__(self, faces: Path, settings: MeasurementSettings, on_step: OnStep = ignore_step) -> None:
        self.settings = settings
        self._on_step = on_step
        self._num_done = self._num_expected = 0
        self._faces = settings.pictures.open(faces.resolve())
        print_left_out(self._faces)
        self._fingerprint = fingerprint(self._faces)
        self._num_faces = min(len(self._faces), settings.max_faces or len(self._faces))
        self._metrics: dict[torch.device, Metrics] = {}
        self._evaluators: dict[tuple[str, int, torch.device], Evaluator] = {}

    def expect(self, networks: Mapping[Path, Path]) -> None:
        """Notes what will be measured, folder of results to checkpoint, for the time left."""
        missing = [name for folder, checkpoint in networks.items() for name in self._missing(checkpoint, folder)]
        self._num_done, self._num_expected = 0, len(missing) * self._num_faces

    def measure(self, checkpoint: Path, folder: Path) -> dict[str, Path]:
        """Evaluates a network under each degradation, unless its complete results are there already; gives the short
        name of each degradation to the folder of its results, in the folder that was given.

        Results count as complete if they are of the same file, faces (names and sizes), values of the degradation,
        seed, metrics and number of faces. A metric that was unavailable then is not tried again; remove the folder for
        that. SIGTERM ends as Ctrl-C does: locks and unfinished files go, what is complete stays. FileNotFoundError
        where there is no such checkpoint, ValueError where it cannot be measured.
        """
        restorer: Restorer | None = None
        folders = {name: folder / name for name in self.settings.preset_names()}
        for name, degradation in self._missing(checkpoint, folder).items():
            try:
                with _ended_in_order():
                    restorer = restorer or load_restorer(checkpoint, default_device(checkpoint))
                    evaluator = self._evaluator(degradation, restorer)
                    evaluate_restorer(restorer, checkpoint, evaluator, folders[name], self._show)
            except (ValueError, OSError) as error:
                raise ValueError(f"{checkpoint.name} cannot be measured under {degradation}: {error}") from error
            self._num_done += self._num_faces
        return folders

    def _evaluator(self, degradation: str, restorer: Restorer) -> Evaluator:
        key = degradation, restorer.resolution, restorer.device
        if key not in self._evaluators:
            if restorer.device not in self._metrics:
                self._metrics[restorer.device] = choose_metrics(self.settings.metrics, restorer.device)
            pairs = self.settings.pairs_of(self._faces, restorer.resolution, degradation)
            if 6 * len(pairs) * restorer.resolution**2 <= MOST_KEPT_BYTES:
                pairs = replace(pairs, kept=tuple(pairs))
            self._evaluators[key] = Evaluator(pairs, self._metrics[restorer.device])
        return self._evaluators[key]

    def _show(self, num_faces: int) -> None:
        """Tells how far all that was expected is; others may have measured some of it meanwhile."""
        done = self._num_done + num_faces
        self._on_step(MEASURING, done, max(self._num_expected, done))

    def _missing(self, checkpoint: Path, folder: Path) -> dict[str, str]:
        """The degradations under which a network has not been measured, by their short names."""
        digest = file_digest(checkpoint)
        return {
            name: degradation
            for name, degradation in self.settings.preset_names().items()
            if not self._is_complete(folder / name, self._expected(degradation, digest))
        }

    def _expected(self, degradation: str, digest: str) -> dict[str, Any]:
        """What the protocol in metrics.json has to say."""
        protocol = self.settings.pairs_of(self._faces, 0, degradation).protocol()
        values = {
            "model_sha256": digest,
            "faces_fingerprint": self._fingerprint,
            "degradation_values": protocol.degradation_values,
            "seed": protocol.seed,
            "num_faces": self._num_faces,
            "background": protocol.background,
        }
        stored: dict[str, Any] = json.loads(json.dumps(values))  # as JSON gives it back
        return stored

    def _is_complete(self, folder: Path, expected: Mapping[str, Any]) -> bool:
        """Whether a folder holds whole results of exactly this evaluation."""
        try:
            summary = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
            with (folder / "per_image.csv").open(newline="", encoding="utf-8") as file:
                num_rows = sum(1 for _ in csv.DictReader(file))
            found = {*summary["restored"], *summary["unavailable"]}.intersection(ALL_METRICS)
            stored = summary["protocol"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return False  # never finished, or damaged: it is measured again
        is_same = all(stored.get(name) == value for name, value in expected.items())
        return is_same and num_rows == expected["num_faces"] and found == {"psnr", *self.settings.metrics}


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Inside it SIGTERM raises SystemExit(143), so that every `finally` is carried out."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
