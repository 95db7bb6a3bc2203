"""Answers a question by training its variants: python -m scripts.run_ablation STUDY --faces F --validation_faces V."""

from pathlib import Path

from data.faces.files import check_faces_exist
from studies.request import Budget, ReportOptions, Request, Runs, StudyFaces
from system import command_line
from system.live_progress import live_progress
from system.paths import check_there


def main(study: Path, /, faces: StudyFaces, runs: Runs, budget: Budget, report: ReportOptions, *options: str) -> None:
    """Trains the variants of a study, measures them on the same faces and writes report.html, report.md and CSV.

    Both stages, several seeds. The same command continues; started several times on machines that share the folder (a
    SLURM array), the runs are divided. Runs that several studies need are done once. Everything after -- goes to
    `python -m train fit`, such as: -- --trainer.precision 32-true

    Args:
        study: YAML file, such as configs/ablations/noise_injection.yaml.
    """
    check_there(study, "study")
    check_faces_exist(faces.faces, faces.validation_faces, faces.degraded, faces.validation_degraded)
    with live_progress("starting"):
        from studies.commands.ablation import carry_out_study

    carry_out_study(Request(study, faces, runs, budget, report, options))


if __name__ == "__main__":
    command_line.run(main)
