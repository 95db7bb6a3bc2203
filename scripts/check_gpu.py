"""The first hour on a GPU: python -m scripts.check_gpu."""

from pathlib import Path
from typing import Literal

from data.faces.files import check_faces_exist
from system import command_line

Step = Literal["iterations", "loader", "compiled", "training"]


def main(
    steps: tuple[Step, ...] = (),
    /,
    device: str = "cuda",
    faces: Path | None = None,
    minutes: float = 10.0,
    output: Path = Path("runs/check_gpu"),
    page: Path | None = None,
) -> int | None:
    """Measures what training does on this GPU: time, memory and kernels of iterations, the loader, a short training.

    Figures go to check_gpu.json in the folder of --output and into docs/gpu.md as soon as they are there; those of
    steps that are not repeated stay. docs/gpu.md says what they mean.

    Args:
        steps: Which of them; none for all, in this order.
        device: Such as cuda or cuda:1; cpu tries the check itself.
        faces: Photographs for loader and training; null for faces that the shipped prior draws.
        minutes: For all steps together, about; half of it is for training.
        output: Folder for what the steps write.
        page: Markdown file whose table is replaced; null for docs/gpu.md on a GPU and none on a CPU.
    """
    if not minutes > 0:
        raise ValueError(f"--minutes must be above 0, got {minutes:g}")
    check_faces_exist(faces)
    import torch

    from benchmarks.gpu_check import Check
    from benchmarks.gpu_iterations import Card
    from system.machine import ROOT

    try:
        card = Card(torch.device(device))
    except RuntimeError as error:
        raise ValueError(f"--device must be such as cuda, cuda:1 or cpu, got {device}") from error
    if page is None and card.is_gpu:
        page = ROOT / "docs" / "gpu.md"
    problems = Check(card, faces, output, page, minutes).run(steps)
    for problem in problems:
        print(f"failed: {problem}")
    return 1 if problems else None


if __name__ == "__main__":
    command_line.run(main)
