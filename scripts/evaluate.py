"""Measures a restorer on faces: python -m scripts.evaluate --checkpoint X --faces FOLDER --output FOLDER."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data.faces.files import Pictures, check_faces_exist, print_left_out
from inference.options import RestorerOptions
from system import command_line
from system.paths import check_output_folder, check_there
from system.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from evaluation.metrics.choice import Metrics
    from evaluation.protocol import Evaluation
    from evaluation.scoring import ConventionMeans


@dataclass(frozen=True)
class Faces:
    """Faces: either clean ones and a degradation, or stored pairs."""

    faces: Path | None = None
    """Folder (recursive), uncompressed zip or tar, LMDB or list of clean aligned faces."""
    degradation: str = "released"
    """Preset or YAML file that degrades them."""
    seed: int = 0
    """Seed of the degradation."""
    degraded_folder: Path | None = None
    """Stored degraded faces, with --target_folder."""
    target_folder: Path | None = None
    """Their targets; names must be equal but for the suffix, or as --names says."""
    names: tuple[str, ...] = ()
    """How names of the degraded faces differ from those of the targets, such as '{}x4', or of both, such as '{}_lq'
    '{}_hq'."""
    results_folder: Path | None = None
    """Restored faces of any origin, with --target_folder: they are scored as they are and no restorer runs."""
    resolution: int | None = None
    """Resizes results and targets to so many pixels; null scores results at the targets' own sizes."""
    max_faces: int | None = None
    """Only the first faces by name; null for all."""
    pictures: Pictures = Pictures()

    def __post_init__(self) -> None:
        if self.results_folder is not None:
            if self.target_folder is None or self.faces is not None or self.degraded_folder is not None:
                raise ValueError("give --results_folder with --target_folder and without other faces")
            return
        if self.resolution is not None:
            raise ValueError("--resolution goes with --results_folder; a restorer has its own")
        if [self.faces is None, self.degraded_folder is None, self.target_folder is None] not in (
            [False, True, True],
            [True, False, False],
        ):
            raise ValueError("give either --faces, or both --degraded_folder and --target_folder")


@dataclass(frozen=True)
class Figures:
    """Figures."""

    metrics: tuple[str, ...] = ("psnr", "ssim", "perceptual", "lpips", "identity", "fd_lite0")
    """psnr (always computed), ssim, perceptual, lpips, identity, landmarks, niqe, fd_lite0, fid, or pyiqa:NAME where
    pyiqa is installed; a metric whose weights or package cannot be had is listed as unavailable."""
    lpips_weights: Path | None = None
    """File of torchvision's AlexNet; null looks into GPEN_WEIGHTS and the cache, then downloads it."""
    inception_weights: Path | None = None
    """File of torch-fidelity, found likewise."""
    niqe_model: Path | None = None
    """NIQE's published model: modelparameters.mat of its release, or BasicSR's niqe_pris_params.npz."""
    crop_border: int = 0
    """Pixels cut from every side before PSNR and SSIM under each convention."""
    reference: Path | None = None
    """Faces that Fréchet and kernel distances are measured to; null takes the targets."""

    def choose(self, device: "torch.device | str") -> "Metrics":
        """Loads what the metrics need."""
        from evaluation.metrics.choice import choose_metrics

        return choose_metrics(self.metrics, device, self.lpips_weights, self.inception_weights, self.niqe_model)


def main(restorer: RestorerOptions, faces: Faces, figures: Figures, output: Path, overwrite: bool = False) -> None:
    """Measures a restorer on faces that are degraded by a preset, or on stored pairs.

    Writes metrics.json (means, 95 % intervals, the whole protocol), per_image.csv and best_worst.png.

    Args:
        output: Folder for the results.
        overwrite: Replace results of an earlier evaluation in --output.
    """
    inputs = faces.faces, faces.degraded_folder, faces.target_folder, faces.results_folder, figures.reference
    check_there(restorer.checkpoint, "checkpoint or exported model")
    check_faces_exist(*inputs)
    for path in inputs:
        check_output_folder(output, overwrite, path)
    from evaluation.pairs import FacePairs, reduction_warning
    from evaluation.protocol import Evaluator
    from studies.measurement import evaluate_restorer

    if faces.results_folder is not None:
        return score_results(faces, figures, output)
    network = restorer.open()
    targets = faces.faces or faces.target_folder
    assert targets is not None  # checked by Faces
    degraded = faces.degradation if faces.degraded_folder is None else faces.pictures.open(faces.degraded_folder)
    target_faces = faces.pictures.open(targets)
    print_left_out(target_faces, *([] if isinstance(degraded, str) else [degraded]))
    pairs = FacePairs(
        target_faces, network.resolution, degraded, faces.seed, restorer.batch_size, faces.max_faces, faces.names
    )
    reference = None if figures.reference is None else faces.pictures.open(figures.reference)
    evaluator = Evaluator(pairs, figures.choose(network.device), figures.crop_border, reference)
    with command_line.progress_bar("restoring and measuring", len(pairs)) as show:
        evaluation = evaluate_restorer(network, restorer.checkpoint, evaluator, output, show)
    print_results(evaluation, output)
    print_conventions(evaluation.conventions)
    if warning := reduction_warning(target_faces, network.resolution):
        command_line.print_names(warning)


def score_results(faces: Faces, figures: Figures, output: Path) -> None:
    """Scores a folder of results and prints two tables: all metrics, and PSNR and SSIM under each convention."""
    from evaluation.pairs import reduction_warning
    from evaluation.reports.tables import identity_sentence, score_rows, write_scores
    from evaluation.scoring import ResultPairs, score_folder
    from inference.folders import without_pairs

    assert faces.results_folder is not None and faces.target_folder is not None  # checked by Faces
    pairs = ResultPairs(
        without_pairs(faces.pictures.open(faces.results_folder)),
        faces.pictures.open(faces.target_folder),
        faces.names,
        faces.resolution,
        faces.max_faces,
    )
    metrics = figures.choose("cpu")
    reference = None if figures.reference is None else faces.pictures.open(figures.reference)
    with command_line.progress_bar("measuring", len(pairs)) as show:
        scores = score_folder(pairs, metrics, figures.crop_border, reference, show)
    write_scores(output, scores, metrics)
    sizes = ", ".join(f"{counted(number, 'face')} at {size}" for size, number in scores.sizes.items())
    header, *rows = score_rows(scores)
    command_line.print_table(sizes, header, rows)
    if sentence := identity_sentence(scores):
        print(sentence)
    print_conventions(scores.conventions)
    if faces.resolution is not None and (warning := reduction_warning(pairs.targets, faces.resolution)):
        command_line.print_names(warning)
    print_unavailable(metrics.unavailable)


def print_conventions(conventions: "Sequence[ConventionMeans]") -> None:
    """Prints the restored images under each convention."""
    from evaluation.reports.tables import convention_rows

    header, *rows = convention_rows(conventions)
    command_line.print_table("the same images under each convention", header, rows, with_rules=True)


def print_unavailable(reasons: "Mapping[str, str]") -> None:
    """Says which metrics could not be had, and why."""
    for name, reason in reasons.items():
        command_line.print_names(f"{name} unavailable: {reason}")


def print_results(evaluation: "Evaluation", output: Path) -> None:
    """Prints the means and what is needed to read them."""
    from evaluation.reports.tables import effect_sentences, identity_sentence, summary_rows

    protocol = evaluation.protocol
    degradation = protocol.degradation if protocol.seed is None else f"{protocol.degradation}, seed {protocol.seed}"
    title = f"{counted(protocol.num_faces, 'face')} at {protocol.resolution} pixels, degradation {degradation}"
    command_line.print_table(title, *summary_rows(evaluation))
    for sentence in filter(None, [*effect_sentences(evaluation), identity_sentence(evaluation)]):
        print(sentence)
    print_unavailable(evaluation.unavailable)
    command_line.print_names(f"mean [95 % interval]; results in {output}")


if __name__ == "__main__":
    command_line.run(main)
