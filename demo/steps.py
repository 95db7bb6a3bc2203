"""The steps of the demo: faces, both stages, evaluation, export, page."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from data.faces.files import FaceFiles, Pictures, hold_out
from demo import budget
from demo.page import effects, write_report
from evaluation.metrics.choice import choose_metrics
from evaluation.pairs import FacePairs
from evaluation.protocol import Evaluation, Evaluator
from evaluation.reports.tables import summary_rows
from export.bundle.assembly import export_bundle
from export.bundle.contents import ExportReport
from export.formats.artefacts import ONNX_NAME, TORCHSCRIPT_NAME
from export.formats.options import ParityFaces
from inference.drawing import SHIPPED_PRIOR, render_faces
from models import load_generator
from models.files.run_folder import latest_checkpoint
from system import command_line, machine
from system.atomic_file import write_atomically
from system.child_processes import Children
from system.command_line import progress_bar
from system.live_progress import live_progress
from system.machine import ROOT
from system.wording import counted
from train.reporting.tracking import read_table
from train.training import quiet_libraries

DEGRADATION, SEED = "small", 0
NUM_RENDERED, NUM_VALIDATION = 2_000, 64
MINUTES, MINUTES_ON_ONE_CORE = 12.0, 25.0


@dataclass
class Demo:
    """One demo in a folder; `run` does what is not done yet. None means: faces that the shipped prior draws; 12
    minutes, or 25 on one core; as many images as fit."""

    output: Path
    faces: Path | None = None
    minutes: float | None = None
    prior_images: int | None = None
    restoration_images: int | None = None
    pictures: Pictures = Pictures()
    _start: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        if self.minutes is None:
            self.minutes = MINUTES if machine.num_cores() > 1 else MINUTES_ON_ONE_CORE
        if not 0 < self.minutes < float("inf"):
            raise ValueError(f"--minutes must be above 0 and finite, got {self.minutes:g}")

    def run(self) -> None:
        """Carries out all steps and prints what they give. ValueError where the folder holds a demo with other options,
        or training failed; SystemExit where this process got a signal, which training got as well."""
        lengths_file = self.output / "demo.json"
        asked = budget.Lengths(self._minutes, str(self.faces), self.prior_images, self.restoration_images)
        lengths = budget.read_lengths(lengths_file, asked)
        faces, note = self._choose_faces()
        print_heading(note)
        precision = machine.fastest_precision()
        print_heading(f"This machine: {machine.processor()}; training in {precision.name}: {precision.reason}")
        quiet_libraries()
        speed = budget.measure_speed(precision)
        first, second = 16 * speed.prior_seconds, 16 * speed.restoration_seconds
        print(f"16 images take {first:.2g} s in stage 1 and about {second:.2g} s in stage 2; all of it "
              f"shall take {self._minutes:g} minutes (--minutes)")  # fmt: skip
        lengths = budget.decide(lengths, lengths_file, prior_images=budget.images_of_prior(self._seconds_left(), speed))
        assert lengths.prior_images is not None
        print_heading(f"Stage 1: a face prior learns to draw from {lengths.prior_images:,} images (minutes show blobs "
            "that become heads; hours show faces)")  # fmt: skip
        begun = time.perf_counter()
        self._train("prior", faces, lengths.prior_images, {"fid_num_images": "0"})
        # What else the machine does slows images and start alike, but a start is no reason to train on fewer images.
        elapsed = time.perf_counter() - begun
        rows = read_table(self.output / "prior" / "train.csv").values()
        rate = median(row["speed/images_per_second"] for row in rows)
        speed = speed.after_prior(rate)
        fitting = budget.images_of_restoration(self._seconds_left(), speed, elapsed - lengths.prior_images / rate)
        lengths = budget.decide(lengths, lengths_file, restoration_images=fitting)
        assert lengths.restoration_images is not None
        print_heading(f"Stage 2: the shipped prior, trained longer, becomes the decoder of GPEN, which learns to "
            f"restore from {lengths.restoration_images:,} images")  # fmt: skip
        self._train(
            "restoration", faces, lengths.restoration_images, options_of_restoration(lengths.restoration_images)
        )
        self._measure_and_export(faces, note)

    @property
    def _minutes(self) -> float:
        assert self.minutes is not None  # set at the beginning
        return self.minutes

    def _seconds_left(self) -> float:
        return 60 * self._minutes - (time.perf_counter() - self._start)

    def _choose_faces(self) -> tuple[Path, str]:
        """The photographs given, else faces drawn by the shipped prior, and what to say about them."""
        if self.faces is not None:
            given = counted(len(self.pictures.open(self.faces)), "photograph")
            return self.faces, f"Faces: {given} of {self.faces}; the last ones by name are held out"
        folder = self.output / "faces"
        with progress_bar("drawing faces", NUM_RENDERED) as show:
            render_faces(SHIPPED_PRIOR, folder, NUM_RENDERED, SEED, show)
        return folder, (
            "Faces: no folder was given (make demo FACES=folder), and torchvision's download of LFW was withdrawn by "
            f"its publishers, so {NUM_RENDERED:,} faces were drawn by the shipped prior {SHIPPED_PRIOR.name}. They are "
            "no photographs: the figures below show that everything works, not how well real faces are restored"
        )

    def _train(self, stage: str, faces: Path, total_images: int, model: dict[str, str]) -> None:
        """Runs `python -m train fit` as a user would, or continues it."""
        quarter = str(max(total_images // 4, 16))
        options = {
            "--config": str(ROOT / "configs" / f"{stage}_64.yaml"),
            "--data.faces": str(faces.resolve()),
            "--data.num_workers": "1",
            "--data.num_validation_faces": str(NUM_VALIDATION),
            "--run.folder": str((self.output / stage).resolve()),
            "--run.total_images": str(total_images),
            "--run.log_every_images": str(min(800, int(quarter))),
            "--run.validate_every_images": quarter,
            "--run.checkpoint_every_images": quarter,
            "--run.wandb": "off",
            **{f"--model.init_args.{name}": value for name, value in model.items()},
        }
        command = ["-m", "train", "fit", *(word for option in options.items() for word in option)]
        command += self.pictures.training_options()
        command_line.print_names("$ " + " ".join(["python", *command]))
        with Children() as children:
            code = children.finish(children.start(command))
        if code != 0:
            raise ValueError(f"training ended with exit code {code}; the same command continues the demo")

    def _measure_and_export(self, faces: Path, note: str) -> None:
        checkpoint = latest_checkpoint(self.output / "restoration")
        assert checkpoint is not None  # a finished run has written one
        print_heading("Evaluation on held-out faces")
        _, held_out = hold_out(self.pictures.open(faces), NUM_VALIDATION)
        evaluation = measure(checkpoint, held_out)
        print_heading("Export, compared with the trained network")
        parity = ParityFaces(faces, DEGRADATION, SEED, pictures=self.pictures)
        with live_progress("exporting") as on_step:
            exported = export_bundle(checkpoint, self.output / "export", parity, overwrite=True, on_step=on_step)
        seconds = time.perf_counter() - self._start
        figures = metrics(evaluation, exported, seconds)
        write_atomically(self.output / "metrics.json", json.dumps(figures, indent=2) + "\n")
        page = write_report(self.output, note, evaluation, exported, seconds)
        print_summary(evaluation, exported, seconds, page)


def options_of_restoration(total_images: int) -> dict[str, str]:
    """Options of stage 2 that follow its length: fidelity first, then the discriminator; the rates fall at the end."""
    return {
        "start": str(SHIPPED_PRIOR),
        "degradation": DEGRADATION,
        "loss_weights.adversarial_rise_images": f"[{int(budget.SHARE_OF_FIDELITY * total_images)},{total_images}]",
        "optimization.schedule.decay": "linear",
        "optimization.schedule.decay_range_images": f"[{total_images // 2},{total_images}]",
        "optimization.schedule.last_share": "0.05",
    }


def measure(checkpoint: Path, faces: FaceFiles) -> Evaluation:
    """PSNR and SSIM of the averaged generator on degraded held-out faces, with the pictures of all."""
    generator = load_generator(checkpoint)
    pairs = FacePairs(faces, generator.architecture.resolution, DEGRADATION, SEED)
    with progress_bar("evaluating", len(pairs)) as show:
        metrics_of_faces = choose_metrics(("psnr", "ssim"))
        return Evaluator(pairs, metrics_of_faces).evaluate(generator, num_extremes=len(pairs), on_progress=show)


def metrics(evaluation: Evaluation, exported: ExportReport, seconds: float) -> dict[str, object]:
    """The contents of metrics.json."""
    tables = {"degraded": evaluation.degraded, "restored": evaluation.restored}
    return {
        **{name: {key: table[key].mean for key in ("psnr", "ssim")} for name, table in tables.items()},
        "export": {
            "onnx_max_difference": exported.differences[ONNX_NAME].largest,
            "torchscript_max_difference": exported.differences[TORCHSCRIPT_NAME].largest,
        },
        "seconds": seconds,
    }


def print_summary(evaluation: Evaluation, exported: ExportReport, seconds: float, page: Path) -> None:
    """The table at the end, and what it shows in words."""
    faces = counted(len(evaluation.rows), "held-out face")
    command_line.print_table(f"{faces}: mean, 95 % interval", *summary_rows(evaluation))
    for sentence in effects(evaluation):
        print(sentence)
    print(f"export: largest difference TorchScript {exported.differences[TORCHSCRIPT_NAME].largest:.1e}, ONNX "
          f"{exported.differences[ONNX_NAME].largest:.1e} (units of [-1, 1])")  # fmt: skip
    command_line.print_names(f"{seconds / 60:.1f} minutes; report: {page}")


def print_heading(text: str) -> None:
    """Prints a heading between the steps."""
    command_line.print_names("", f"== {text}")
