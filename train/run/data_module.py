"""Faces as Lightning wants them: the batches of a run, and the faces that are held out for validation."""

import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader

from data.dataset import RunBatches, RunImage, RunImages, collate_faces
from data.faces.broken import BrokenFaces, deadly_problem, usable_faces
from data.faces.contents import contents_fingerprint, times_fingerprint
from data.faces.files import FaceFiles, fingerprint, hold_out, open_faces
from train.processes.signals import leave_signals_to_the_run

LOADER_TIMEOUT_SECONDS = 50
"""A loader that gives nothing for so long hangs: the run ends with a reason."""


@dataclass(frozen=True)
class Reading:
    """How photographs are read."""

    cache_mebibytes: int = 256
    """Memory for resized photographs, per worker."""
    max_broken_share: float = 0.01
    """Of the faces may be broken files, at most 0.5: others stand in for them. 0 ends the run at the first; else one is
    always allowed."""


@dataclass(frozen=True)
class OrderOfRun:
    """What the order of the faces follows from; set by the options of `run`."""

    seed: int = 0
    """Set by `run.seed`."""
    total_images: int = 1_000_000
    """Length of the run; set by `run.total_images`."""
    folder: Path = Path(".")
    """Where `broken_faces.jsonl` names the broken files; set by `run.folder`."""


class FacesDataModule(LightningDataModule):
    """Photographs of a folder or zip, in the order of the run.

    Args:
        faces: Folder (recursive) or uncompressed zip of aligned faces for training.
        batch_size: Images per iteration over all processes together.
        validation_faces: The same for validation; null holds out the last `num_validation_faces` of `faces` by name.
        num_validation_faces: At most so many validation faces are used.
        flip_probability: Of mirroring a training face.
        num_workers: Processes that read photographs, per training process; 0 reads in the training process.
        reading: Memory for photographs, and how many may be broken.
        run: Seed, length and folder; set by the options of `run`.
    """

    def __init__(
        self,
        faces: Path,
        batch_size: int = 8,
        validation_faces: Path | None = None,
        num_validation_faces: int = 64,
        flip_probability: float = 0.5,
        num_workers: int = 2,
        reading: Reading = Reading(),
        run: OrderOfRun = OrderOfRun(),
    ) -> None:
        super().__init__()
        self.path = faces
        self.batch_size = batch_size
        self.validation_path = validation_faces
        self.num_validation_faces = num_validation_faces
        self.flip_probability = flip_probability
        self.num_workers = num_workers
        self.reading = reading
        self.run = run
        self.faces, self.validation_faces = self._split()
        self._images: RunImages | None = None
        self.loader: TimedLoader | None = None
        self.broken = BrokenFaces(self.faces, run.folder / "broken_faces.jsonl", reading.max_broken_share)

    def _split(self) -> tuple[FaceFiles, FaceFiles]:
        faces = open_faces(self.path)
        if self.validation_path is not None:
            return faces, open_faces(self.validation_path).take(slice(self.num_validation_faces))
        return hold_out(faces, self.num_validation_faces)

    def description(self, recorded: Mapping[str, str]) -> dict[str, str]:
        """What identifies the data of a run.

        Args:
            recorded: The description when the run was begun or last continued, empty for a new run: files of the same
                sizes and times are not read again.
        """
        return {
            "faces": str(self.path),
            "num_faces": str(len(self.faces)),
            "fingerprint": fingerprint(self.faces),
            "num_validation_faces": str(len(self.validation_faces)),
            "validation_fingerprint": fingerprint(self.validation_faces),
            **_contents("", self.faces, recorded),
            **_contents("validation_", self.validation_faces, recorded),
        }

    @cached_property
    def usable_validation_faces(self) -> FaceFiles:
        """The held-out faces without broken files, which `broken_validation_faces.jsonl` names."""
        report = self.run.folder / "broken_validation_faces.jsonl"
        return usable_faces(self.validation_faces, report, self.reading.max_broken_share)

    def run_images(self, resolution: int, flip_probability: float, cache_bytes: int = 0) -> RunImages:
        """The training faces in the order of the run, others in the place of broken ones."""
        return RunImages(self.faces, resolution, self.run.seed, flip_probability, cache_bytes, self.broken)

    def end_workers(self) -> None:
        """Ends the workers of the data loader, also those that hang."""
        if self.loader is not None:
            self.loader.end_workers()

    def being_read(self) -> list[str]:
        """The files that workers of the data loader are reading, or were when they died."""
        return self._images.being_read() if self._images is not None else []

    def note_deadly_faces(self) -> list[str]:
        """Notes as broken those of the files being read that end a reader or never end, each tried by itself.

        Returns:
            Their names. The next start takes others in their place.

        Raises:
            ValueError: Too many faces are broken.
        """
        suspects = self._images.positions_being_read() if self._images is not None else []
        self.end_workers()
        problems = {index: deadly_problem(self.faces, index) for index in suspects}
        deadly = {index: problem for index, problem in problems.items() if problem is not None}
        for index, problem in deadly.items():
            self.broken.add(index, problem, is_deadly=True)
        return [self.faces.source(index) for index in deadly]

    def lost_worker(self) -> str:
        """How a worker of the data loader ended, empty where none did."""
        iterator: Any = None if self.loader is None else self.loader.loader._iterator
        codes = [worker.exitcode for worker in getattr(iterator, "_workers", [])]
        return next((f"killed by signal: {signal.strsignal(-code)}" for code in codes if code and code < 0), "")

    def train_dataloader(self) -> "TimedLoader":
        """The rest of the run's batches, from the images seen so far."""
        assert self.trainer is not None  # Lightning calls this within fit only
        module: Any = self.trainer.lightning_module
        cache_bytes = self.reading.cache_mebibytes * 2**20
        self._images = images = self.run_images(module.architecture.resolution, self.flip_probability, cache_bytes)
        batches = RunBatches(
            module.progress.images_seen,
            self.run.total_images,
            self.batch_size,
            self.trainer.global_rank,
            self.trainer.world_size,
        )
        loader: DataLoader[RunImage] = DataLoader(
            images,
            batch_sampler=batches,
            collate_fn=collate_faces,
            num_workers=self.num_workers,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
            persistent_workers=self.num_workers > 0,
            prefetch_factor=4 if self.num_workers > 0 else None,
            timeout=LOADER_TIMEOUT_SECONDS if self.num_workers > 0 else 0,
            worker_init_fn=leave_signals_to_the_run,
        )
        self.loader = TimedLoader(loader)
        return self.loader


class TimedLoader:
    """A data loader that knows how long training waited for it.

    Args:
        loader: Gives the batches.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader
        self.waited_seconds = 0.0
        self.has_hung = False
        """Workers were killed because nothing arrived although the loader's own timeout had passed."""
        self._waiting_since: float | None = None

    def __len__(self) -> int:
        """Batches left in the run."""
        return len(self.loader)

    def end_workers(self) -> None:
        """Ends the workers; those that hang or ignore it are killed, as Python would wait for them at its end."""
        iterator: Any = self.loader._iterator
        if iterator is not None and self.loader.num_workers > 0:
            workers = list(iterator._workers)
            iterator._shutdown_workers()
            for worker in workers:
                worker.kill()

    def __iter__(self) -> Iterator[Any]:
        """Yields the batches."""
        batches, is_over = iter(self.loader), threading.Event()
        if self.loader.num_workers > 0:
            threading.Thread(target=self._kill_hanging_workers, args=(is_over,), daemon=True).start()
        try:
            while True:
                start = self._waiting_since = time.perf_counter()
                batch = next(batches, None)
                self._waiting_since = None
                self.waited_seconds += time.perf_counter() - start
                if batch is None:
                    return
                yield batch
        finally:
            is_over.set()

    def _kill_hanging_workers(self, is_over: threading.Event) -> None:
        """Ends waits that PyTorch's timeout does not: a stopped worker never hands over the memory of its batch."""
        while not self.has_hung and not is_over.wait(1):
            since = self._waiting_since
            if since is not None and time.perf_counter() - since > LOADER_TIMEOUT_SECONDS + 2:
                self.has_hung = True
                iterator: Any = self.loader._iterator
                for worker in iterator._workers:
                    worker.kill()


def _contents(prefix: str, faces: FaceFiles, recorded: Mapping[str, str]) -> dict[str, str]:
    """Fingerprint of the contents, taken from the record where no file has changed since."""
    contents, times = f"{prefix}contents", f"{prefix}times"
    times_now = times_fingerprint(faces)
    is_known = recorded.get(times) == times_now and contents in recorded
    return {contents: recorded[contents] if is_known else contents_fingerprint(faces), times: times_now}
