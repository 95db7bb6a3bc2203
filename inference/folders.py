"""Restoring all aligned faces of a folder into another one, and what is done to bring each to the model's size."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from data.dataset import FaceImages
from data.faces.files import FaceFiles
from data.ranges import model_to_uint8, uint8_to_model
from evaluation.reports.pictures import comparison_rows, write_png
from system.live_progress import OnProgress, ignore_progress
from system.wording import unwrapped

Size = tuple[int, int]
"""Width and height in pixels."""

MOST_UNEVEN = 1.1
"""How much longer one side of an aligned face may be; photographs have 1.33 and more."""


@dataclass
class SizeChanges:
    """Counts pictures by what becomes of them."""

    resolution: int
    """R, width and height that the model takes, in pixels."""
    sizes: Counter[Size] = field(default_factory=Counter)
    """How many pictures there were of each size."""
    crop: bool = True
    """Whether pictures that are far from square count as faces, of which the middle is taken."""

    def add(self, size: Size) -> None:
        """Counts a picture."""
        self.sizes[size] += 1

    def refusal(self, size: Size) -> str | None:
        """Why a picture is no aligned face, None where it may be one."""
        if self.crop or max(size) <= MOST_UNEVEN * min(size):
            return None
        return (
            f"it is {_text(size)} pixels and not square as aligned faces are; scripts.restore_photos finds the faces "
            "of photographs, --crop takes its middle"
        )

    def sentences(self) -> list[str]:
        """One sentence for each kind of loss; none where all pictures had the model's size."""
        wanted, texts = f"{self.resolution}x{self.resolution}", []
        if uneven := self._where(lambda size: size[0] != size[1]):
            side = min(uneven[0])
            texts.append(
                f"{self._count(uneven)} not square: only the central square was kept ({_text(uneven[0])} was cut to "
                f"{side}x{side}); give faces that are aligned"
            )
        if larger := self._where(lambda size: min(size) > self.resolution):
            texts.append(
                f"{self._count(larger)} larger than the model's images: made smaller ({_text(larger[0])} to {wanted}), "
                "so detail of theirs is lost; a model of their size would keep it"
            )
        if smaller := self._where(lambda size: min(size) < self.resolution):
            texts.append(
                f"{self._count(smaller)} smaller than the model's images: enlarged first ({_text(smaller[0])} to "
                f"{wanted})"
            )
        return texts

    def _where(self, is_meant: Callable[[Size], bool]) -> list[Size]:
        """Sizes, the commonest first."""
        return [size for size, _ in self.sizes.most_common() if is_meant(size)]

    def _count(self, sizes: list[Size]) -> str:
        number, total = sum(self.sizes[size] for size in sizes), self.sizes.total()
        return f"{number:,} of {total:,} pictures {'is' if number == 1 else 'are'}"


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


SIDE_BY_SIDE = "side_by_side"
"""Folder of an output with pairs of given and restored faces."""


def without_pairs(results: FaceFiles) -> FaceFiles:
    """Results without the pairs that `restore_folder` wrote beside them."""
    return results.choose([i for i, name in enumerate(results.names) if not name.startswith(f"{SIDE_BY_SIDE}/")])


def restore_folder(
    restore: Callable[[Tensor], Tensor],
    faces: FaceFiles,
    resolution: int,
    output: Path,
    batch_size: int = 8,
    on_progress: OnProgress = ignore_progress,
    changes: SizeChanges | None = None,
    side_by_side: bool = False,
) -> dict[str, str]:
    """Restores faces and writes each as PNG under its own name.

    Args:
        restore: float32 [N, 3, R, R] in [-1, 1] to the restored images of the same shape.
        faces: Aligned faces of any size; sides that differ are cropped to the central square.
        resolution: R in pixels, to which faces are resized and at which they are written.
        output: Folder; sub folders are kept, suffixes become .png. Every file is complete or absent.
        batch_size: Faces restored at once.
        on_progress: Called with the number of faces done after each batch.
        changes: Gets the size of every picture that can be read, and refuses some.
        side_by_side: Also write what the network was given and what it made of it as one picture, into the folder
            `side_by_side` of the output.

    Returns:
        Reasons by the names of the faces that could not be restored; the others are written all the same.

    Raises:
        ValueError: Two faces would get one name, a result would leave the output folder, or has another shape.
    """
    if batch_size < 1:
        raise ValueError(f"batch size must be at least 1, got {batch_size}")
    targets = _target_files(faces, output)
    pairs = _target_files(faces, output / SIDE_BY_SIDE) if side_by_side else {}
    if shared := set(targets.values()) & set(pairs.values()):
        raise ValueError(f"{min(shared)} would be written twice; rename the folder {SIDE_BY_SIDE} of the input")
    failed: dict[str, str] = {}
    done = 0
    for names, degraded in _readable_batches(faces, resolution, batch_size, failed, changes):
        with torch.no_grad():
            restored = restore(uint8_to_model(degraded)).cpu()
        if restored.shape != degraded.shape:
            raise ValueError(
                f"restored images must have the shape {tuple(degraded.shape)}, got {tuple(restored.shape)}"
            )
        for name, given, image in zip(names, degraded, restored, strict=True):
            if not torch.isfinite(image).all():
                failed[name] = "the restored image is not finite; check the checkpoint"
                continue
            pixels = model_to_uint8(image)
            write_png(targets[name], pixels.permute(1, 2, 0).contiguous().numpy())
            if side_by_side:
                write_png(pairs[name], comparison_rows([given[None], pixels[None]], ("given", "restored")))
        done += len(names)
        on_progress(done + len(failed))
    return failed


def _target_files(faces: FaceFiles, output: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    owners: dict[Path, str] = {}
    for name in faces.names:
        file = output / PurePosixPath(name).with_suffix(".png")
        if file in owners:
            raise ValueError(f"{owners[file]} and {name} would both become {file}; rename one of them")
        if not file.parent.resolve().is_relative_to(output.resolve()):
            raise ValueError(f"{file.parent} must lie inside {output}, but is a link to elsewhere; remove it")
        files[name], owners[file] = file, name
    return files


def _readable_batches(
    faces: FaceFiles, resolution: int, batch_size: int, failed: dict[str, str], changes: SizeChanges | None
) -> Iterator[tuple[list[str], Tensor]]:
    """Names and uint8 [N, 3, R, R] of the faces that can be read; the reasons of the others go into `failed`."""
    images = FaceImages(faces, resolution)
    names: list[str] = []
    pixels: list[Tensor] = []
    for index, name in enumerate(faces.names):
        try:
            image = images[index]
            if changes is not None:
                size = images.stored_size(index)
                if refusal := changes.refusal(size):
                    raise ValueError(f"{name}: {refusal}")
                changes.add(size)
            pixels.append(image)
            names.append(name)
        except ValueError as error:
            failed[name] = unwrapped(error)
        if names and (len(names) == batch_size or index == len(faces) - 1):
            yield names, torch.stack(pixels)
            names, pixels = [], []
