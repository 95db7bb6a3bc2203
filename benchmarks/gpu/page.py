"""The measured part of docs/gpu.md, between two marks; what stands around it is written by people."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from system.atomic_file import write_atomically
from system.wording import counted

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
