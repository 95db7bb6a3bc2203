"""All that is asked in the first hour on a GPU, in the order of what matters, within a given time."""

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, get_args

from benchmarks import gpu_iterations, gpu_training
from benchmarks.gpu_iterations import Card, Effort, Figures, Form, measure_forms
from benchmarks.gpu_training import draw_faces, measure_reading
from benchmarks.iterations import Size, Stage
from models import Architecture
from system import machine
from system.atomic_file import write_atomically
from system.child_processes import end_with
from system.wording import counted

Step = Literal["iterations", "loader", "compiled", "training"]
STEPS: tuple[Step, ...] = get_args(Step)
FIGURES = "check_gpu.json"
SHARE_OF_TRAINING = 0.5
"""Of the whole time, for training. Compiling gets what the other steps leave."""
SECONDS_OF_READING = 15.0
LEAST_SECONDS = 30.0
"""For the forms of one size in a process of their own: less would not even start it."""
MOST_WORKERS = 16


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    sizes: tuple[Size, ...] = (Size(Architecture(256, 1, 0.5), 16), Size(Architecture(512, 2, 1.0), 8))
    """Networks and batches of the iterations: BFR-256 and BFR-512 of the public models."""
    effort: Effort = field(default_factory=Effort)
    seconds_of_reading: float = SECONDS_OF_READING
    training: tuple[str, ...] = gpu_training.TRAINING
    """Options of `python -m train fit`."""


@dataclass
class Check:
    """Measures step by step within so many minutes. The folder gets check_gpu.json, with every figure as soon as it is
    there, the curves and the run; a page of Markdown gets its table replaced. Without photographs the shipped prior
    draws faces for loader and training."""

    card: Card
    faces: Path | None
    folder: Path
    page: Path | None
    minutes: float
    plan: Plan = field(default_factory=Plan)
    _start: float = field(default_factory=time.perf_counter)

    def run(self, steps: Sequence[Step]) -> list[str]:
        """Carries out some of `STEPS`, all where none is named; results of others that an earlier call left in the
        folder stay. Returns what failed, one line each."""
        self._results = self._earlier()
        self._results |= {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "card": self.card.description(),
            **machine.code_state(),
        }
        self._results.setdefault("problems", {})
        carry_out: dict[Step, Callable[[], object]] = {
            "iterations": lambda: self._iterate(is_compiled=False),
            "loader": self._read,
            "compiled": lambda: self._iterate(is_compiled=True),
            "training": self._train,
        }
        name = self._results["card"]["name"]
        print(f"{name}: {', '.join(steps or STEPS)}, about {self.minutes:g} minutes", flush=True)
        for step in [step for step in STEPS if not steps or step in steps]:
            self._results["problems"][step] = []
            try:
                carry_out[step]()
            except (ValueError, OSError, RuntimeError) as error:  # the other steps are worth their time all the same
                self._fail(step, f"{type(error).__name__}: {error}")
            self._write()
        return [f"{step}: {problem}" for step, found in self._results["problems"].items() for problem in found]

    def _earlier(self) -> dict[str, Any]:
        path = self.folder / FIGURES
        try:
            results = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}); move it away: all steps are measured anew") from error
        if not isinstance(results, dict) or not isinstance(results.get("problems", {}), dict):
            raise ValueError(
                f"{path} must hold the figures of an earlier check; move it away, or choose another --output"
            )
        return results

    def _fail(self, step: Step, problem: str) -> None:
        print(f"failed: {problem}", flush=True)
        self._results["problems"][step].append(problem)

    def _write(self) -> None:
        write_atomically(self.folder / FIGURES, json.dumps(self._results, indent=2) + "\n")
        if self.page is not None:
            write_table(self.page, self._results)

    def _seconds_left(self) -> float:
        """Until training has to begin."""
        return 60 * self.minutes * (1 - SHARE_OF_TRAINING) - (time.perf_counter() - self._start)

    def _iterate(self, is_compiled: bool) -> None:
        step: Step = "compiled" if is_compiled else "iterations"
        rows = self._results[step] = []
        of_forms = gpu_iterations.forms(self.card)[is_compiled]
        works: list[tuple[Stage, Size]] = [(stage, size) for size in self.plan.sizes for stage in (2, 1)]
        for index, (stage, size) in enumerate(works):
            share = max(self._seconds_left(), 0.0) / (len(works) - index)
            seconds = max(share, LEAST_SECONDS)
            for figures in in_another_process(self.card, stage, size, of_forms, self.plan.effort, seconds):
                rows.append(asdict(figures))
                print(_line(figures), flush=True)
                if figures.problem:
                    self._results["problems"][step].append(f"stage {stage}, {size}, {figures.form}: {figures.problem}")
                self._write()

    def _read(self) -> None:
        resolution = max(size.architecture.resolution for size in self.plan.sizes)
        num_workers = max(min(machine.num_cores() - 1, MOST_WORKERS), 1)
        reading = measure_reading(
            self._faces(), resolution, num_workers, self.plan.seconds_of_reading, self.folder / "reading"
        )
        kind = "drawn by the shipped prior, enlarged" if self.faces is None else "photographs"
        self._results["loader"] = {**reading, "kind": kind}
        speed = f"{reading['images_per_second']:.0f} images/s at {resolution} pixels"
        print(f"loader: {speed}, {counted(num_workers, 'worker')}", flush=True)

    def _train(self) -> None:
        minutes = self.minutes * SHARE_OF_TRAINING
        words = ("--data.num_workers", str(max(min(machine.num_cores() - 1, 8), 1)), *self.plan.training)
        result = gpu_training.train(self.card, words, self._faces(), minutes, self.folder)
        self._results["training"] = {"minutes": minutes, **result}

    def _faces(self) -> Path:
        return draw_faces(self.folder / "faces") if self.faces is None else self.faces


def in_another_process(
    card: Card, stage: Stage, size: Size, of_forms: Sequence[Form], effort: Effort, seconds: float
) -> Iterator[Figures]:
    """Measures forms in a process that is ended when its time is over; arguments as of `measure_forms`.

    Memory that an earlier form held is gone so, and a compiler that never ends costs no more than its time.
    """
    deadline = time.perf_counter() + seconds
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send_figures, args=(theirs, os.getpid(), card, stage, size, of_forms, effort))
    process.start()
    theirs.close()
    done, problem = 0, ""
    try:
        while done < len(of_forms):
            if not ours.poll(max(deadline - time.perf_counter(), 0)):
                problem = f"not done within {seconds:.0f} s"
                break
            yield ours.recv()
            done += 1
    except EOFError:
        problem = "its process ended; its message stands above"
    finally:
        ours.close()
        process.kill()
        process.join()
    for form in of_forms[done:]:
        yield Figures(stage, str(size), form.name, size.batch_size, problem=problem)


def _send_figures(
    pipe: Connection, parent: int, card: Card, stage: Stage, size: Size, of_forms: Sequence[Form], effort: Effort
) -> None:
    end_with(parent)
    for figures in measure_forms(card, stage, size, of_forms, effort):
        pipe.send(figures)


def _line(figures: Figures) -> str:
    work = f"stage {figures.stage}, {figures.size}, {figures.form}"
    if figures.seconds is None:
        return f"{work}: {figures.problem}"
    return f"{work}: {figures.seconds * 1000:,.1f} ms, {figures.batch_size / figures.seconds:,.1f} images/s"


BEGIN, END = "<!-- measured by scripts.check_gpu -->", "<!-- end of what is measured -->"
NOTHING = "–"


def write_table(page: Path, results: Mapping[str, Any]) -> None:
    """Replaces what stands between the marks of a Markdown page by what check_gpu.json holds; ValueError
    without marks."""
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} must hold the lines {BEGIN} and {END}, between which figures are put; add them")
    write_atomically(page, f"{before}{BEGIN}\n\n{measured_part(results)}\n\n{END}{after}")


def measured_part(results: Mapping[str, Any]) -> str:
    """Figures as Markdown."""
    card = results["card"]
    versions = ", ".join(f"{name} {version}" for name, version in card["versions"].items())
    memory = f", {card['memory_bytes'] / 2**30:.0f} GiB" if "memory_bytes" in card else ""
    cuda = f", CUDA {card['cuda']}, cuDNN {card['cudnn']}" if "cuda" in card else ""
    parts = [f"{card['name']}{memory}{cuda}; {card['processor']}; {versions}; {results['date']}, commit "
             f"{results['git_commit'][:12]}{' with changes' if results['git_dirty'] else ''}."]  # fmt: skip
    rows = [*results.get("iterations", ()), *results.get("compiled", ())]
    if rows:
        parts += ["### Iterations", _iterations(rows), *_kernels(rows)]
    if "loader" in results:
        parts += ["### The loader alone", _loader(results["loader"])]
    if "training" in results:
        parts += ["### A short training", _training(results["training"])]
    failed = [f"- {step}: {problem}" for step, found in results["problems"].items() for problem in found]
    if failed:
        parts += ["### What failed", "\n".join(failed)]
    return "\n\n".join(parts)


def _iterations(rows: Sequence[Mapping[str, Any]]) -> str:
    works = list(dict.fromkeys((row["stage"], row["size"]) for row in rows))
    lines = [
        "| one iteration | | time | images/s | times textbook | most memory | share of a product |",
        "|---|---|---|---|---|---|---|",
    ]
    for stage, size in works:
        of_work = [row for row in rows if (row["stage"], row["size"]) == (stage, size)]
        slow = next((row["seconds"] for row in of_work if row["form"].startswith("textbook")), None)
        lines += [f"| stage {stage}, {size} | {_cells(row, slow)} |" for row in of_work]
    return "\n".join(lines)


def _cells(row: Mapping[str, Any], slow: float | None) -> str:
    if row["seconds"] is None:
        return f"{row['form']} | {row['problem'].replace('|', '/')} | | | |"
    seconds, memory, share = row["seconds"], row["memory_bytes"], row["share_of_product"]
    return " | ".join(
        (
            row["form"],
            f"{seconds * 1000:,.1f} ms",
            f"{row['batch_size'] / seconds:,.1f}",
            f"{slow / seconds:.2f}" if slow is not None else NOTHING,
            f"{memory / 2**30:.1f} GiB" if memory is not None else NOTHING,
            f"{share:.0%}" if share is not None else NOTHING,
        )
    )


def _kernels(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    profiled = [row for row in rows if row["kernels"]]
    if not profiled:
        return []
    lines = []
    for row in profiled:
        leading = ", ".join(f"`{name}` {share:.0%}" for name, share in row["kernels"])
        work = f"stage {row['stage']}, {row['size']}, {row['form']}"
        lines.append(f"- {work}: kernels run {row['busy_share']:.0%} of the time; {leading}")
    return ["Kernels that lead, as shares of the time of all kernels:", "\n".join(lines)]


def _loader(loader: Mapping[str, Any]) -> str:
    speed = f"{loader['images_per_second']:,.0f} images a second of {loader['resolution']} pixels"
    workers = counted(loader["num_workers"], "worker")
    return f"{speed} from {workers} ({loader['faces']}, {loader['kind']}), none kept in memory."


def _training(training: Mapping[str, Any]) -> str:
    first, last = training["psnr"]
    speed = f"{training['images_seen']:,} images, {training['images_per_second']:,.0f} a second"
    return (
        f"Stage 2 at 64 pixels from the shipped prior, {training['minutes']:g} minutes: {speed}, "
        f"{training['loader_share']:.0%} of the time spent waiting for faces; {first:.2f} dB at the start, {last:.2f} "
        f"dB at the end (degraded {training['degraded_psnr']:.2f} dB)."
    )
