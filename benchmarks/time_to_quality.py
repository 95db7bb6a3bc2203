"""How much sooner a restorer is as good: our training by our recipe beside the textbook's by the released one.

The textbook takes hundreds of milliseconds an image. Its updates are those of our step by the same recipe, which tests
hold to rounding: our step computes them here, and each image counts with the time that the textbook takes for it.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks import iterations
from benchmarks.iterations import Size, attach_trainer, choose_formulations
from data.dataset import FaceBatch
from data.faces.files import Pictures
from evaluation.metrics.choice import choose_metrics
from evaluation.protocol import Evaluator
from evaluation.reports.charts import Curve, CurvePanel, curve_panels_svg
from inference.drawing import SHIPPED_PRIOR
from losses.identity import IdentityLoss
from models import Architecture
from system import machine
from system.atomic_file import write_atomically
from system.live_progress import live_progress
from train.command import objects_of
from train.run.data_module import FacesDataModule

DEGRADATION, NUM_FACES, NUM_MEASUREMENTS = "small", 100, 12
NUM_ROUNDS = 3
"""In which the textbook is timed."""
SIZE = Size(Architecture(64, 1, 0.125), 8)
OUR_SHARE = 1 / 16
"""Of the textbook's time that ours gets: what counts is when it reaches what the textbook reaches at all."""
TWIN, OURS = "textbook", "ours"
RECIPES = {TWIN: "released", OURS: "fidelity"}
"""Files in configs/recipes."""


class Quality(NamedTuple):
    """A metric of the comparison."""

    label: str
    """In the plot."""
    unit: str
    """After figures, with a space before it; empty for none."""
    decimals: int
    is_more_better: bool


QUALITIES = {
    "psnr": Quality("PSNR [dB]", " dB", 2, True),
    "ssim": Quality("SSIM", "", 3, True),
    "identity": Quality("identity distance", "", 3, False),
    "fd_lite0": Quality("fd_lite0", "", 1, False),
}


class Measurement(NamedTuple):
    """How good a contender was after some training."""

    minutes: float
    """Of processor time of its training."""
    images_seen: int
    values: dict[str, float]
    """By the names of `QUALITIES`: means over faces, or one value for all."""


@dataclass
class Contender:
    """One way of training: its step on a batch, and its time, images and measured quality so far."""

    step: Callable[[FaceBatch], None]
    batches: Iterator[FaceBatch]
    restorers: Sequence[Callable[[Tensor], Tensor]]
    """Networks that it offers, float32 [N, 3, R, R] in [-1, 1] to the same; the one of higher PSNR counts."""
    seconds_per_image: float | None = None
    """Counted as the time of its training; None for the processor time that it takes here."""
    seconds: float = 0.0
    images_seen: int = 0
    measurements: list[Measurement] = field(default_factory=list)

    def train(self, until_seconds: float, on_batch: Callable[[], None]) -> None:
        """Goes on until its training has taken so much time."""
        while self.seconds < until_seconds:
            start = time.process_time()
            batch = next(self.batches)
            self.step(batch)
            number = len(batch.image_indices)
            taken = time.process_time() - start
            self.seconds += taken if self.seconds_per_image is None else number * self.seconds_per_image
            self.images_seen += number
            on_batch()

    def measure(self, by_psnr: Evaluator, evaluator: Evaluator) -> dict[str, float]:
        """Notes how good it is now; gives the same figures of the degraded faces."""
        psnrs = [by_psnr.evaluate(r, num_extremes=0).restored["psnr"].mean for r in self.restorers]
        found = evaluator.evaluate(self.restorers[psnrs.index(max(psnrs))], num_extremes=0)
        restored, degraded = (
            {n: table[n].mean for n in QUALITIES if n in table} for table in (found.restored, found.degraded)
        )
        self.measurements.append(Measurement(self.seconds / 60, self.images_seen, restored))
        return degraded


def prepare(
    recipe: str, faces: Path, validation_faces: Path, pictures: Pictures, folder: Path
) -> tuple[Contender, FacesDataModule]:
    """This project's training by a recipe, from the shipped prior, in the last of the machine's native precisions.

    The average restores or, where they do better, the weights themselves: an average without ramp-up forgets the start
    slowly.
    """
    configs = machine.ROOT / "configs"
    words = ["--config", str(configs / "restoration_64.yaml"), "--config", str(configs / "recipes" / f"{recipe}.yaml")]
    words += ["--model.init_args.degradation", DEGRADATION, "--model.init_args.start", str(SHIPPED_PRIOR)]
    words += ["--data.faces", str(faces), "--data.validation_faces", str(validation_faces), "--data.num_workers", "0"]
    words += ["--data.num_validation_faces", str(NUM_FACES), "--data.batch_size", str(SIZE.batch_size)]
    words += pictures.training_options()
    objects = objects_of([*words, "--run.total_images", str(10**9), "--run.folder", str(folder)])
    module, data = objects.model.init_args, FacesDataModule(objects.data, objects.run)
    data.trainer = trainer = attach_trainer(module, machine.native_precisions()[-1])

    def step(batch: FaceBatch) -> None:
        with trainer.precision_plugin.train_step_context():
            module.training_step(batch, 0)

    return Contender(step, iter(data.train_dataloader()), [module.ema, module.generator]), data


def textbook_seconds_per_image() -> float:
    """Processor time of an image in the textbook's iteration by the released recipe, float32, lazy terms amortised."""
    seconds = 0.0
    for part in iterations.textbook(2, SIZE, identity=IdentityLoss()):
        part.run()
        start = time.process_time()
        for _ in range(NUM_ROUNDS):
            part.run()
        seconds += part.share * (time.process_time() - start) / NUM_ROUNDS
    return seconds / SIZE.batch_size


@dataclass(frozen=True)
class Comparison:
    """What was measured so far."""

    degraded: dict[str, float]
    contenders: dict[str, list[Measurement]]

    def sentences(self) -> dict[str, str]:
        """Says by metric when ours was at least as good as the twin ever was, and how many times sooner that is."""
        return {name: self._sentence(name, quality) for name, quality in QUALITIES.items() if name in self.degraded}

    def _sentence(self, name: str, quality: Quality) -> str:
        sign = 1 if quality.is_more_better else -1
        theirs = self.contenders[TWIN]
        best = max(theirs, key=lambda measurement: sign * measurement.values[name])
        reached = next((m for m in self.contenders[OURS] if sign * m.values[name] >= sign * best.values[name]), None)
        figure = f"{best.values[name]:.{quality.decimals}f}{quality.unit}"
        words = f"the textbook's best {quality.label.split(' [')[0]}, {figure} after {best.minutes:.1f} minutes"
        if reached is None:
            return f"ours does not reach {words}, within {self.contenders[OURS][-1].minutes:.2f}"
        if sign * best.values[name] <= sign * self.degraded[name]:
            words += f" (no better than the degraded faces' {self.degraded[name]:.{quality.decimals}f})"
        return f"ours reaches {words}, after {reached.minutes:.2f}: {best.minutes / reached.minutes:.1f} times sooner"

    def draw(self) -> bytes:
        """SVG: a panel for each metric, over minutes of processor time on a logarithmic scale."""
        panels = []
        for name, quality in QUALITIES.items():
            if name in self.degraded:
                curves = [
                    Curve(n, [m.minutes for m in found], [m.values[name] for m in found])
                    for n, found in self.contenders.items()
                ]
                ends = [minutes for curve in curves for minutes in (curve.x[0], curve.x[-1])]
                curves.append(Curve("degraded", [min(ends), max(ends)], [self.degraded[name]] * 2))
                panels.append(CurvePanel(curves, quality.label))
        return curve_panels_svg(panels, "minutes of processor time")


def draw_time_to_quality(
    faces: Path,
    validation_faces: Path,
    minutes: float,
    drawing: Path,
    output: Path | None = None,
    pictures: Pictures = Pictures(),
) -> None:
    """Trains by both recipes from the shipped prior on aligned faces, in turns; draws how good they are over the
    processor time: after every measurement an SVG file, and a JSON file with the figures where one is named. Of other
    faces the first ones, degraded, are restored. The textbook trains for so many minutes, ours for `OUR_SHARE` of it.
    """
    choose_formulations()
    contenders, seconds = {}, {TWIN: minutes * 60, OURS: OUR_SHARE * minutes * 60}
    with tempfile.TemporaryDirectory() as folder, live_progress("preparing") as on_step:
        for name, recipe in RECIPES.items():
            contenders[name], data = prepare(recipe, faces, validation_faces, pictures, Path(folder))
        pairs = data.validation_pairs(SIZE.architecture.resolution, DEGRADATION, seed=0)
        kept = replace(pairs, kept=tuple(pairs))
        evaluators = [Evaluator(kept, choose_metrics(names)) for names in (("psnr",), tuple(QUALITIES))]
        on_step("timing the textbook")
        contenders[TWIN].seconds_per_image = textbook_seconds_per_image()

        def on_batch() -> None:
            shares = [contender.seconds / seconds[name] for name, contender in contenders.items()]
            on_step("thousandths of the training", int(1000 * sum(shares) / len(shares)), 1000)

        for number in range(1, NUM_MEASUREMENTS + 1):
            for name, contender in contenders.items():
                contender.train(seconds[name] * (number / NUM_MEASUREMENTS) ** 2, on_batch)
                degraded = contender.measure(*evaluators)
            comparison = Comparison(degraded, {name: contender.measurements for name, contender in contenders.items()})
            _write(comparison, drawing, output)
    print(*comparison.sentences().values(), sep="\n")


def _write(comparison: Comparison, drawing: Path, output: Path | None) -> None:
    write_atomically(drawing, comparison.draw())
    for name, measured in comparison.contenders.items():
        figures = ", ".join(f"{metric} {value:.4g}" for metric, value in measured[-1].values.items())
        print(f"{name}, {measured[-1].minutes:.2f} minutes, {measured[-1].images_seen:,} images: {figures}", flush=True)
    if output is not None:
        here = {
            "processor": machine.processor(),
            "threads": torch.get_num_threads(),
            "precision": machine.native_precisions()[-1],
        }
        content = {
            "machine": here,
            "sentences": comparison.sentences(),
            "degraded": comparison.degraded,
            "contenders": {name: [m._asdict() for m in found] for name, found in comparison.contenders.items()},
        }
        write_atomically(output, json.dumps(content, indent=1) + "\n")
