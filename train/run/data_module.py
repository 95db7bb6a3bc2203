"""Faces as Lightning wants them: the photographs of a run, their batches, and those held out for validation."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from data.dataset import RunBatches, RunImage, RunImages, StoredPairs, collate_faces
from data.faces.broken import BrokenFaces, deadly_problem, usable_faces
from data.faces.files import FaceFiles, contents_fingerprint, fingerprint, hold_out, open_faces, times_fingerprint
from data.faces.pairing import match_degraded
from evaluation.pairs import FacePairs
from train.processes.strategy import leave_signals_to_the_run
from train.run.settings import FaceSettings, RunSettings


@dataclass(frozen=True)
class Photographs:
    """The sets of a run."""

    faces: FaceFiles
    validation_faces: FaceFiles
    pairs: StoredPairs | None = None
    """Stored degraded versions of the former; None where all are degraded by the preset."""
    validation_degraded: FaceFiles | None = None
    """Stored degraded versions of the latter, in their order; None where they are degraded by the preset."""
    real: FaceFiles | None = None
    """Low-quality faces without targets, for pictures."""

    def all_sets(self) -> list[FaceFiles]:
        """Every folder or archive once."""
        degraded = None if self.pairs is None else self.pairs.degraded
        sets = (self.faces, self.validation_faces, degraded, self.validation_degraded, self.real)
        return list({faces.path: faces for faces in sets if faces is not None}.values())

    def describe(self) -> str:
        """What a run trains on, in one line."""
        words = f"{len(self.faces):,} to train on, {len(self.validation_faces):,} held out"
        if self.pairs is not None:
            share = self.pairs.synthetic_share
            words += f", with degraded versions from {self.pairs.degraded.path}"
            words += f" for {1 - share:.0%} of the images" if share else ""
            words += ", held-out faces degraded by the preset" if self.validation_degraded is None else ""
        return words


def open_photographs(settings: FaceSettings) -> Photographs:
    """Lists the sets of a run and pairs them; FileNotFoundError or ValueError where one is missing or cannot be
    used."""
    opened = partial(open_faces, background=settings.background)
    faces, num_held_out, names = opened(settings.faces), settings.num_validation_faces, settings.names
    real = None if settings.real_faces is None else opened(settings.real_faces)
    degraded = None
    if settings.degraded is not None:
        degraded = match_degraded(opened(settings.degraded), faces, names, may_be_more=True)
    validation_degraded = None
    if settings.validation_faces is None:
        faces, validation_faces = hold_out(faces, num_held_out)
        if degraded is not None:
            number = len(faces)
            degraded, validation_degraded = degraded.take(slice(number)), degraded.take(slice(number, None))
    else:
        validation_faces = opened(settings.validation_faces).take(slice(num_held_out))
        if settings.validation_degraded is not None:
            stored = opened(settings.validation_degraded)
            validation_degraded = match_degraded(stored, validation_faces, names, may_be_more=True)
    pairs = None if degraded is None else StoredPairs(degraded, settings.synthetic_share or 0.0)
    return Photographs(faces, validation_faces, pairs, validation_degraded, real)


LOADER_TIMEOUT_SECONDS = 50
"""A loader that gives nothing for so long hangs: the run ends with a reason."""


class FacesDataModule(LightningDataModule):
    """Photographs of a folder or zip, in the order that seed and length of the run give; its folder gets
    `broken_faces.jsonl`."""

    def __init__(self, settings: FaceSettings, run: RunSettings) -> None:
        super().__init__()
        self.settings = settings
        self.run = run
        self.batch_size = settings.batch_size
        self.num_workers = settings.num_workers
        self.photographs = open_photographs(settings)
        self.faces, self.validation_faces = self.photographs.faces, self.photographs.validation_faces
        self._images: RunImages | None = None
        self.loader: TimedLoader | None = None
        self.broken = BrokenFaces(self.faces, run.folder / "broken_faces.jsonl", settings.max_broken_share)

    def description(self, recorded: Mapping[str, str]) -> dict[str, str]:
        """What identifies the data of a run; files of the sizes and times that were recorded before are not
        read again."""
        described = {
            "faces": str(self.settings.faces),
            "num_faces": str(len(self.faces)),
            "fingerprint": fingerprint(self.faces),
            "num_validation_faces": str(len(self.validation_faces)),
            "validation_fingerprint": fingerprint(self.validation_faces),
            **_contents("", self.faces, recorded),
            **_contents("validation_", self.validation_faces, recorded),
        }
        pairs, validation_degraded = self.photographs.pairs, self.photographs.validation_degraded
        if pairs is not None:
            described |= {"degraded": str(self.settings.degraded), **_contents("degraded_", pairs.degraded, recorded)}
        if validation_degraded is not None:
            described |= _contents("validation_degraded_", validation_degraded, recorded)
        return described

    def validation_pairs(self, resolution: int, degradation: str, seed: int) -> FacePairs:
        """The held-out faces at R pixels, without broken files, which `broken_validation_faces.jsonl` names; those
        without stored degraded versions are degraded. Raises ValueError if too many are broken."""
        report, degraded = self.run.folder / "broken_validation_faces.jsonl", self.photographs.validation_degraded
        usable = usable_faces(self.validation_faces, report, self.settings.max_broken_share, degraded)
        faces = self.validation_faces.choose(usable)
        if degraded is None:
            return FacePairs(faces, resolution, degradation, seed)
        return FacePairs(faces, resolution, degraded.choose(usable), names=self.settings.names)

    def run_images(
        self,
        resolution: int,
        flip_probability: float,
        cache_bytes: int = 0,
        locate: Callable[[Tensor], Tensor] | None = None,
    ) -> RunImages:
        """The training faces in the order of the run with what belongs to them, others in the place of broken ones."""
        run, pairs = self.run, self.photographs.pairs
        return RunImages(self.faces, resolution, run.seed, flip_probability, cache_bytes, self.broken, pairs, locate)

    def end_workers(self) -> None:
        """Ends the workers of the data loader, also those that hang."""
        if self.loader is not None:
            self.loader.end_workers()

    def being_read(self) -> list[str]:
        """The files that workers of the data loader are reading, or were when they died."""
        return self._images.being_read() if self._images is not None else []

    def note_deadly_faces(self) -> list[str]:
        """Notes as broken those of the files being read that end a reader or never end, each tried by itself, and
        returns their names; the next start takes others in their place. Raises ValueError if too many faces are broken.
        """
        suspects = self._images.positions_being_read() if self._images is not None else []
        self.end_workers()
        sets = [self.faces] + ([] if self.photographs.pairs is None else [self.photographs.pairs.degraded])
        tried = {index: [deadly_problem(faces, index) for faces in sets] for index in suspects}
        problems = {index: next(filter(None, found), None) for index, found in tried.items()}
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
        cache_bytes = self.settings.cache_mebibytes * 2**20
        self._images = images = self.run_images(
            module.architecture.resolution, self.settings.flip_probability, cache_bytes, module.locate
        )
        images_seen, place = module.progress.images_seen, (self.trainer.global_rank, self.trainer.world_size)
        batches = RunBatches(images_seen, self.run.total_images, self.batch_size, *place)
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
    """A data loader that knows how long training waited for it."""

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
