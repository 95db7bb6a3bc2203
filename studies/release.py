"""Release files from finished runs: networks in few bits, their cards, figures and pictures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import models
from data.degradation.presets import BlurRanges, ColorRanges, DegradationRanges, RoundRanges, load_preset
from data.degradation.sampling import sample_parameters
from data.degradation.synthesis import degrade
from data.ranges import model_to_uint8, uint8_to_model
from evaluation.metrics.choice import choose_metrics
from evaluation.metrics.image_metrics import psnr
from evaluation.pairs import FacePairs
from evaluation.protocol import Evaluation, Evaluator
from evaluation.reports.charts import curves_svg, run_curves
from evaluation.reports.pictures import Picture, comparison_rows, picture_grid, side_by_side, write_png
from evaluation.reports.tables import summary_rows
from inference.drawing import sample
from models.files.release_file import read_safetensors
from models.files.run_folder import NAME, find_checkpoint, images_of, read_config, read_record, run_of
from studies.request import Release
from system.atomic_file import write_atomically
from system.command_line import print_names
from system.paths import check_output_folder
from system.wording import listed

LARGEST_BYTES = 20_000_000
WEIGHTS_SUFFIXES = (".safetensors", ".onnx")
SEED = 0
NUM_PICTURED, NUM_COLUMNS = 16, 8
SHOWN_PIXELS = 128
"""At which smaller faces are shown."""
NUM_DRAWN_TO_CHOOSE_FROM, TRUNCATION = 256, 0.7
_CLEAN = RoundRanges(BlurRanges(probability=0.0), (1.0, 1.0), (0.0, 0.0), jpeg_probability=0.0)
KINDS = {
    "blur": DegradationRanges(replace(_CLEAN, blur=BlurRanges(sigma_range=(8.0, 8.0)))),
    "motion": DegradationRanges(
        replace(_CLEAN, blur=BlurRanges(motion_probability=1.0, motion_length_range=(36.0, 36.0)))
    ),
    "a third of the pixels": DegradationRanges(replace(_CLEAN, downscale_range=(3.0, 3.0))),
    "noise": DegradationRanges(replace(_CLEAN, noise_sigma_range=(10.0, 10.0))),
    "JPEG of quality 40": DegradationRanges(replace(_CLEAN, jpeg_probability=1.0, jpeg_quality_range=(40, 40))),
    "old photograph": DegradationRanges(
        replace(
            _CLEAN, blur=BlurRanges(sigma_range=(4.0, 4.0)), noise_sigma_range=(8.0, 8.0), grey_noise_probability=1.0
        ),
        color=ColorRanges(1.0, True, 1.0, (1.1, 1.1), (0.75, 0.75)),
    ),
    "preset small": load_preset("small"),
    "preset released": load_preset("released"),
}
"""What the shown faces are degraded with, one each."""
HEADING = """---
license: other
license_name: see-the-data-below
library_name: gpen-trainer
pipeline_tag: image-to-image
tags: [face-restoration, gpen, stylegan2, pytorch]
---

# Release weights

EMA weights, made by `python -m scripts.publish_weights`. Of each run the best checkpoint by validation, where it has
figures. identity_128.safetensors, the recognition network of the identity loss, has a page of its own,
identity_128.md.
"""


def publish(release: Release, overwrite: bool) -> None:
    """Writes the release files, their cards and pictures, and prints the cards. Raises ValueError or OSError where a
    run holds no checkpoint, the folder holds files already, or they are too large."""
    check_output_folder(release.output, overwrite, release.faces)
    restorer, card = _restorer(release)
    resolution = restorer.architecture.resolution
    file = release.output / f"gpen_{resolution}.safetensors"
    prior_file = release.output / f"prior_{resolution}.safetensors"
    cards: dict[Path, dict[str, str]] = {}
    if release.prior is not None:
        checkpoint = _checkpoint(release.prior)
        prior, discriminator = models.load_prior(checkpoint), models.load_discriminator(checkpoint)
        cards[prior_file] = _card(checkpoint, release.data)
        models.save_release(prior_file, prior, discriminator, cards[prior_file], release.prior_numbers)
    cards[file] = card
    models.save_release(file, restorer, card=card, numbers=release.numbers)
    total = sum(path.stat().st_size for path in release.output.iterdir() if path.suffix in WEIGHTS_SUFFIXES)
    if total > LARGEST_BYTES:
        raise ValueError(f"the release files take {total / 1e6:.1f} MB, at most {LARGEST_BYTES / 1e6:.0f} MB may ship")
    lines = [HEADING, *(card_text(path, words) for path, words in cards.items())]
    lines += [_figures(file, release, name) for name in release.degradations]
    page = release.output / ("README.md" if release.prior is not None else f"gpen_{resolution}.md")
    write_atomically(page, "\n".join(lines))
    restorer = models.load_generator(file)
    _write_restored(release, restorer)
    if release.prior is not None:
        prior = models.load_prior(prior_file)
        _write_faces(release.output / "drawn.png", sample(prior, SEED, range(NUM_PICTURED)))
        _write_curves(release)
        if discriminator is not None:
            write_png(release.output / "kinds.png", kinds_picture(restorer, prior, discriminator))
    print_names(*"\n".join(lines).splitlines())


def _restorer(release: Release) -> tuple[models.GPEN, dict[str, str]]:
    """The network that is published and its card."""
    checkpoint = _checkpoint(release.restoration_run)
    restorer, card = models.load_generator(checkpoint), _card(checkpoint, release.data)
    if release.interpolated_with:
        others = [find_checkpoint(path) for path in release.interpolated_with]
        restorer = interpolate(restorer, [models.load_generator(path) for path in others], release.shares)
        card = interpolated_card(card, [_card(path, release.data) for path in others], release.shares)
    return restorer, card


def _checkpoint(source: Path) -> Path:
    """A file as it is; of a run the best checkpoint by validation where it has such a figure, else the latest."""
    last = find_checkpoint(source)
    try:
        return last if source.is_file() else find_checkpoint(source / "best")
    except (ValueError, FileNotFoundError):
        return last


def _card(path: Path, data: str) -> dict[str, str]:
    """What the release file says of a checkpoint; a release file keeps what it says."""
    stored = models.read_checkpoint(path).card
    run = run_of(path)
    if run is None:
        return dict(stored)
    record = read_record(run)["sessions"][-1]
    return {
        "data": data,
        "images seen": stored.get("images seen", "unknown"),
        "history": json.dumps(_history(run, images_of(path))),
        "trained with": f"torch {record['versions']['torch']}, seed {read_config(run)['run']['seed']}, commit "
        f"`{record['git_commit'][:12]}`",
    }


def interpolate(one: models.GPEN, others: Sequence[models.GPEN], shares: Sequence[float]) -> models.GPEN:
    """Gives `one` weights between its own and those of others, whose shares are given. ValueError where their
    architectures differ.

    Networks that one training led to keep a trade-off of their losses along the way (ESRGAN, arXiv 1809.00219, section
    3.4), and the mean of several lies above each of them (arXiv 2203.05482); others do not mix.
    """
    for other in others:
        if one.architecture != other.architecture:
            raise ValueError(
                "weights can be interpolated between restorers of one architecture, got "
                f"{one.architecture.in_words()} and {other.architecture.in_words()}; choose another --interpolated_with"
            )
    states = [network.state_dict().values() for network in (one, *others)]
    with torch.no_grad():
        for target, *tensors in zip(*states, strict=True):
            target.mul_(1 - sum(shares))
            for tensor, share in zip(tensors, shares, strict=True):
                target.add_(tensor, alpha=share)
    return one


def interpolated_card(
    card: Mapping[str, str], others: Sequence[Mapping[str, str]], shares: Sequence[float]
) -> dict[str, str]:
    """The card of a restorer whose weights lie between those of several: the trainings of the first, and what the
    others were trained on with from where they part."""
    trainings = _stored_history(card)
    parts = [f"{1 - sum(shares):.0%} of these"]
    for other, share in zip(others, shares, strict=True):
        before = _stored_history(other)
        num_shared = next(n for n in range(len(before), -1, -1) if trainings[:n] == before[:n])
        which = f"after training {num_shared}" if num_shared else "of other trainings"
        if num_shared and (apart := " Then ".join(before[num_shared:])):
            which += f" and another one ({apart.removesuffix('.')})"
        parts.append(f"{share:.0%} of those {which}")
    return {**card, "history": json.dumps([*trainings, f"Weights between them: {', '.join(parts)}."])}


def card_text(file: Path, card: Mapping[str, str]) -> str:
    """The model card of one file, in Markdown."""
    stored = models.read_checkpoint(file)
    what = "GPEN restorer" if stored.kind == "gpen" else "face prior (StyleGAN2) and its discriminator"
    is_int8 = any(tensor.dtype == torch.int8 for tensor in read_safetensors(file).tensors.values())
    numbers = "weights in 8 bits with a scale for each output channel" if is_int8 else "half precision"
    lines = [
        f"## {file.name}",
        "",
        f"- What: {what}, {file.stat().st_size / 1e6:.1f} MB, {numbers}, read by every command of this repository.",
        f"- Architecture: {stored.architecture.in_words()}.",
        f"- Data: {card.get('data', 'not recorded')}",
        f"- Trained with {card.get('trained with', 'what is not recorded')}:",
        *(f"  {index}. {text}" for index, text in enumerate(_stored_history(card), 1)),
        "- Limits: small, trained for a short time; no product. Restored details are plausible, not true.",
    ]
    if any("identity dlib" in text for text in _stored_history(card)):
        lines.append("- dlib's network judged in training too: the identity below is no independent judgement.")
    lines.append("")
    return "\n".join(lines)


def _stored_history(card: Mapping[str, str]) -> list[str]:
    history: list[str] = json.loads(card.get("history", "[]"))
    return history


def _history(run: Path, images_seen: int) -> list[str]:
    """The trainings that led to a network, the first one first; a run may start from another run or a release."""
    config = read_config(run)
    options = config["model"]["init_args"]
    resolution = options["architecture"]["resolution"]
    text = f"Images seen: {images_seen:,} at {resolution} pixels, batch {config['data']['batch_size']}, "
    if "degradation" in options:
        weights = {term: w for term, w in options["loss_weights"].items() if isinstance(w, float) and w}
        text += f"degradation `{options['degradation']}`{_pairs(config['data'])}, loss weights ({listed(weights)}), "
    else:
        text += f"R1 γ {options['regularization']['r1_weight']:g}, "
    text += f"{listed({'betas': options['optimization']['betas']})}, rates {_rates(options['optimization'])}."
    if not options.get("start"):
        return [text]
    if recorded := read_record(run)["sessions"][0].get("start_history"):
        return [*json.loads(recorded), text]
    start = Path(options["start"])
    if not NAME.fullmatch(start.name):  # a checkpoint of a run may be gone by now; its name says enough
        start = find_checkpoint(start)
    if before := run_of(start.absolute()):
        return [*_history(before, images_of(start)), text]
    return [*_stored_history(models.read_checkpoint(start).card), text]


def _pairs(data: dict[str, Any]) -> str:
    """Which share of the images stage 2 took from stored pairs; a face that is its own pair is not degraded."""
    if not data.get("degraded"):
        return ""
    what = "as they are" if data["degraded"] == data["faces"] else "stored pairs"
    return f" ({1 - data['synthetic_share']:.0%} of the images {what})"


def _rates(optimization: dict[str, Any]) -> str:
    rates = {name.removesuffix("_learning_rate"): v for name, v in optimization.items() if name.endswith("_rate")}
    words = [f"{name.replace('_', ' ')} {rate:g}" for name, rate in rates.items() if rate is not None]
    schedule = {name: value for name, value in optimization.get("schedule", {}).items() if value}
    return ", ".join([*words, *([listed({"schedule": schedule})] if schedule else [])])


def _figures(path: Path, release: Release, degradation: str) -> str:
    """Figures of the release file itself, rounding of the weights included, in Markdown with their protocol."""
    evaluation = _measure(models.load_generator(path), release, degradation)
    header, rows = summary_rows(evaluation)
    protocol = evaluation.protocol
    lines = [
        f"### {path.name} under `{degradation}`",
        "",
        f"{len(evaluation.rows)} held-out faces of {'/'.join(release.faces.parts[-2:])}, {protocol.resolution} pixels, "
        f"seed {SEED}, 8-bit RGB in and out, SSIM with Gaussian window 11 and σ 1.5; mean and 95 % bootstrap interval "
        "over faces.",
        "",
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]
    return "\n".join(lines + [f"{name}: {reason}\n" for name, reason in evaluation.unavailable.items()])


def _measure(generator: models.GPEN, release: Release, degradation: str) -> Evaluation:
    pairs = FacePairs(release.pictures.open(release.faces), generator.architecture.resolution, degradation, SEED)
    return Evaluator(pairs, choose_metrics(("psnr", "ssim", "identity"))).evaluate(generator)


@torch.no_grad()
def _write_restored(release: Release, restorer: models.GPEN) -> None:
    """What the restorer draws: never photographs, degraded or not."""
    faces, resolution = release.pictures.open(release.faces), restorer.architecture.resolution
    pair = next(iter(FacePairs(faces, resolution, release.degradations[0], SEED, NUM_PICTURED)))
    name = "restored" if release.prior is not None else f"restored_{resolution}"
    _write_faces(release.output / f"{name}.png", restorer(uint8_to_model(pair.degraded)))


def _write_faces(path: Path, faces: Tensor) -> None:
    enlargement = max(SHOWN_PIXELS // faces.shape[-1], 1)
    large = model_to_uint8(faces).repeat_interleave(enlargement, 2).repeat_interleave(enlargement, 3)
    write_png(path, picture_grid(large, NUM_COLUMNS))


def _write_curves(release: Release) -> None:
    """Of the runs that the files come from."""
    last = run_of(release.restoration_run) or release.restoration_run
    psnr = run_curves(last / "validation.csv", ("validation/psnr", "degraded/psnr"))
    write_atomically(release.output / "psnr.svg", curves_svg(psnr, "images seen", "PSNR [dB]"))
    for name, run in (("prior", release.prior), ("restoration", last)):
        if run is None or run.is_file():
            continue
        losses = ("discriminator/adversarial", "generator/adversarial", "generator/l1", "generator/identity")
        curves = run_curves(run / "train.csv", losses)
        write_atomically(release.output / f"{name}_losses.svg", curves_svg(curves, "images seen", "loss"))


@torch.no_grad()
def kinds_picture(restorer: models.GPEN, prior: models.Prior, discriminator: models.Discriminator) -> Picture:
    """Shows eight kinds of degradation on faces that the prior draws and its discriminator takes for photographs, so
    that no photograph is shown: [H, W, 3], one kind a row, in two blocks of degraded | restored | target with PSNR in
    dB below."""
    drawn = sample(prior, SEED, range(NUM_DRAWN_TO_CHOOSE_FROM), "kinds", truncation=TRUNCATION)
    logits = torch.cat([discriminator(faces).logits for faces in drawn.split(NUM_PICTURED)])
    target = uint8_to_model(model_to_uint8(drawn[logits.argsort(descending=True)[: len(KINDS)]]))
    resolution = target.shape[-1]
    parameters = [sample_parameters(kind, SEED, index, resolution) for index, kind in enumerate(KINDS.values())]
    degraded, target = map(model_to_uint8, degrade(target, parameters))
    states = [degraded, model_to_uint8(restorer(uint8_to_model(degraded))), target]
    before, after = (psnr(images, target).tolist() for images in states[:2])
    captions = [
        f"{kind}: {given:.1f} → {restored:.1f} dB" for kind, given, restored in zip(KINDS, before, after, strict=True)
    ]
    halves = (slice(len(KINDS) // 2), slice(len(KINDS) // 2, None))
    return side_by_side(
        [comparison_rows([faces[half] for faces in states], captions=captions[half]) for half in halves]
    )
