"""Turns finished runs into the release files under weights/: python -m scripts.publish_weights --prior-run … --help."""

import argparse
import json
from pathlib import Path

import command_line
from atomic_file import write_atomically
from data.degradation_presets import load_preset
from data.faces import open_faces
from evaluation.metrics import choose_metrics
from evaluation.pairs import degraded_pairs
from evaluation.protocol import Evaluation, evaluate, faces_protocol
from evaluation.tables import summary_rows
from models import load_discriminator, load_generator, load_prior, read_checkpoint, save_release
from train.run_checkpoints import latest_checkpoint

LARGEST_BYTES = 20_000_000
SEED = 0


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.publish_weights",
        description="Writes weights/prior_R.safetensors (averaged prior and discriminator), weights/gpen_R.safetensors "
        "(averaged restorer), both in half precision, and their model cards in weights/README.md, measured on faces "
        "that training did not see. Replaces what was there.",
    )
    parser.add_argument("--prior-run", type=Path, required=True, help="folder of a stage 1 run")
    parser.add_argument("--restoration-run", type=Path, required=True, help="folder of a stage 2 run")
    parser.add_argument("--faces", type=Path, required=True, help="folder of held-out faces for the figures")
    parser.add_argument("--data", required=True, help="what the faces were and their terms of use, one sentence")
    parser.add_argument("--degradations", nargs="+", default=["small", "released"], help="presets to measure under")
    parser.add_argument("--output", type=Path, default=Path("weights"), help="folder (default: weights)")
    return parser.parse_args()


def main() -> None:
    """Writes the release files and their cards."""
    arguments = parse_arguments()
    prior_path, restorer_path = _checkpoint(arguments.prior_run), _checkpoint(arguments.restoration_run)
    prior, restorer = load_prior(prior_path), load_generator(restorer_path)
    resolution = restorer.architecture.resolution
    cards = {
        name: {
            "data": arguments.data,
            "images seen": read_checkpoint(path).card["images seen"],
            "origin": "this project",
        }
        for name, path in (("prior", prior_path), ("gpen", restorer_path))
    }
    files = {name: arguments.output / f"{name}_{resolution}.safetensors" for name in cards}
    save_release(files["prior"], prior, load_discriminator(prior_path), cards["prior"])
    save_release(files["gpen"], restorer, card=cards["gpen"])
    total = sum(path.stat().st_size for path in files.values())
    if total > LARGEST_BYTES:
        raise ValueError(f"the release files take {total / 1e6:.1f} MB, at most {LARGEST_BYTES / 1e6:.0f} MB may ship")
    evaluations = {name: _measure(files["gpen"], arguments.faces, name) for name in arguments.degradations}
    text = _model_cards(files, cards, evaluations, arguments)
    write_atomically(arguments.output / "README.md", text)
    print(text)


def _checkpoint(run: Path) -> Path:
    path = latest_checkpoint(run)
    if path is None:
        raise FileNotFoundError(f"{run} holds no checkpoints; give the folder of a run")
    return path


def _measure(path: Path, faces_path: Path, degradation: str) -> Evaluation:
    """Figures of the release file itself, half precision included."""
    generator, faces, ranges = load_generator(path), open_faces(faces_path), load_preset(degradation)
    resolution = generator.architecture.resolution
    protocol = faces_protocol(faces, faces_path.name, resolution, degradation, ranges, SEED)
    pairs = degraded_pairs(faces, resolution, ranges, SEED)
    return evaluate(generator, pairs, choose_metrics(("psnr", "ssim", "lpips", "identity")), protocol)


def _model_cards(
    files: dict[str, Path],
    cards: dict[str, dict[str, str]],
    evaluations: dict[str, Evaluation],
    arguments: argparse.Namespace,
) -> str:
    runs = {"prior": arguments.prior_run, "gpen": arguments.restoration_run}
    lines = [
        "# Release weights",
        "",
        "Written by `python -m scripts.publish_weights`; half precision, EMA weights.",
        "",
    ]
    for name, path in files.items():
        record = json.loads((runs[name] / "run.json").read_text())
        lines += [
            f"## {path.name}",
            "",
            f"- What: {'GPEN restorer' if name == 'gpen' else 'face prior (StyleGAN2) and its discriminator'}, "
            f"{path.stat().st_size / 1e6:.1f} MB, read by every command of this repository.",
            f"- Data: {cards[name]['data']}",
            f"- Images seen: {int(cards[name]['images seen']):,}.",
            f"- Trained with: torch {record['versions']['torch']}, commit `{record['git_commit'][:12]}`, "
            f"seed and every option in the run's config.yaml (configs/{'restoration' if name == 'gpen' else 'prior'}_"
            "64.yaml).",
            "",
        ]
    for name, evaluation in evaluations.items():
        header, rows = summary_rows(evaluation)
        lines += [
            f"### gpen under `{name}`",
            "",
            f"{len(evaluation.rows)} held-out faces of {evaluation.protocol.faces}, seed {SEED}, "
            f"{evaluation.protocol.resolution} pixels, 8-bit RGB, mean and 95 % bootstrap interval over faces.",
            "",
            "| " + " | ".join(header) + " |",
            "|" + "---|" * len(header),
            *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows),
            "",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    command_line.run(main)
