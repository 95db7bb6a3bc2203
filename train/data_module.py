"""Faces as Lightning wants them: the batches of a run, and the faces that are held out for validation."""

from pathlib import Path
from typing import Any

from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from data.dataset import FaceImages, RunBatches, RunImages, collate_faces
from data.faces import FaceFiles, fingerprint, hold_out, open_faces


class FacesDataModule(LightningDataModule):
    """Photographs of a folder or zip, in the order of the run.

    Args:
        faces: Folder (recursive) or uncompressed zip of aligned faces for training.
        batch_size: Images per iteration over all processes together.
        validation_faces: The same for validation; null holds out the last `num_validation_faces` of `faces` by name.
        num_validation_faces: At most so many validation faces are used.
        flip_probability: Of mirroring a training face.
        num_workers: Processes that read photographs, per training process; 0 reads in the training process.
        cache_mebibytes: Memory for resized photographs, per worker.
        total_images: Length of the run; set by `run.total_images`.
        seed: Of the run; set by `run.seed`.
    """

    def __init__(
        self,
        faces: Path,
        batch_size: int = 8,
        validation_faces: Path | None = None,
        num_validation_faces: int = 64,
        flip_probability: float = 0.5,
        num_workers: int = 2,
        cache_mebibytes: int = 256,
        total_images: int = 1_000_000,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.path = faces
        self.batch_size = batch_size
        self.validation_path = validation_faces
        self.num_validation_faces = num_validation_faces
        self.flip_probability = flip_probability
        self.num_workers = num_workers
        self.cache_bytes = cache_mebibytes * 2**20
        self.total_images = total_images
        self.seed = seed
        self.faces, self.validation_faces = self._split()

    def _split(self) -> tuple[FaceFiles, FaceFiles]:
        faces = open_faces(self.path)
        if self.validation_path is not None:
            return faces, _first(open_faces(self.validation_path), self.num_validation_faces)
        return hold_out(faces, self.num_validation_faces)

    def description(self) -> dict[str, str]:
        """What identifies the data of a run."""
        return {
            "faces": str(self.path),
            "num_faces": str(len(self.faces)),
            "fingerprint": fingerprint(self.faces),
            "num_validation_faces": str(len(self.validation_faces)),
            "validation_fingerprint": fingerprint(self.validation_faces),
        }

    def validation_images(self, resolution: int) -> FaceImages:
        """The held-out faces as tensors."""
        return FaceImages(self.validation_faces, resolution)

    def train_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        """The rest of the run's batches, from the images seen so far."""
        assert self.trainer is not None  # Lightning calls this within fit only
        module: Any = self.trainer.lightning_module
        images = RunImages(
            self.faces, module.architecture.resolution, self.seed, self.flip_probability, self.cache_bytes
        )
        batches = RunBatches(
            module.progress.images_seen,
            self.total_images,
            self.batch_size,
            self.trainer.global_rank,
            self.trainer.world_size,
        )
        return DataLoader(
            images,
            batch_sampler=batches,
            collate_fn=collate_faces,
            num_workers=self.num_workers,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
            persistent_workers=self.num_workers > 0,
            prefetch_factor=4 if self.num_workers > 0 else None,
        )


def _first(faces: FaceFiles, most: int) -> FaceFiles:
    return faces.take(slice(most))
