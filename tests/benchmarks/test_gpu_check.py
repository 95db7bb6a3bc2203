"""The check of the first hour on a GPU, tried with the CPU in the place of one."""

import json
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from benchmarks.contenders import Part
from benchmarks.gpu_check import BEGIN, END, STEPS, Check, Plan, in_another_process, write_table
from benchmarks.gpu_iterations import Card, Effort, Figures, Form, forms, measure_forms, operations
from benchmarks.iterations import Size
from models import Architecture
from scripts.check_gpu import main
from tests.fixtures.noting_child import wait_for
from tests.fixtures.runs import Run
from tests.test_documents import lines_to_run, run_line

CPU = Card(torch.device("cpu"))
TINY = Size(Architecture(32, 1, 0.03125, style_dim=16, num_mapping_layers=1), 4)
SHORT = Effort(seconds=0.01, product_side=64)


def test_operations_of_a_convolution_are_counted_forward_and_backward_by_the_share_of_their_part() -> None:
    network, images = torch.nn.Conv2d(3, 8, 3, padding=1), torch.ones(2, 3, 16, 16)
    once = 2 * (2 * 16 * 16) * (3 * 8 * 9)
    assert operations([Part(lambda: network(images))]) == once
    trained = Part(lambda: network(images).sum().backward(), 0.5)
    assert operations([Part(lambda: network(images)), trained]) == once + 0.5 * 2 * once  # images need no gradient
    halving = torch.nn.Conv2d(3, 8, 3, stride=2)
    assert operations([Part(lambda: halving(images))]) == 2 * (2 * 7 * 7) * (3 * 8 * 9)
    doubling = torch.nn.ConvTranspose2d(3, 8, 3, stride=2)
    leaf = images.clone().requires_grad_()
    both = Part(lambda: doubling(leaf).sum().backward())  # forward, gradients of image and weight
    assert operations([both]) == 3 * once


def test_a_form_that_fails_says_why_and_the_next_one_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(card: Card, stage: int, size: Size, form: Form, start: Figures, effort: Effort) -> Figures:
        if form.is_textbook:
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")
        return replace(start, seconds=0.5)

    monkeypatch.setattr("benchmarks.gpu_iterations._measure", measure)
    first, second = measure_forms(CPU, 1, TINY, forms(CPU)[0], SHORT)
    assert first.seconds is None
    assert first.problem == "OutOfMemoryError: CUDA out of memory. Tried to allocate"
    assert (second.form, second.seconds, second.problem) == ("ours, float32", 0.5, "")


def test_forms_whose_time_is_over_are_named() -> None:
    plain, _ = forms(CPU)
    found = list(in_another_process(CPU, 1, TINY, plain, SHORT, seconds=0.01))
    assert [(f.form, f.seconds, f.problem) for f in found] == [
        (form.name, None, "not done within 0 s") for form in plain
    ]


def measuring(parent: int) -> list[int]:
    """Processes at work that another one has started to measure."""
    found = []
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
            found.append(int(child))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process that its parent is gone")
def test_a_check_that_is_stopped_leaves_no_measurement_behind() -> None:
    endless = replace(SHORT, seconds=3600.0)
    check = get_context("fork").Process(
        target=lambda: list(in_another_process(CPU, 1, TINY, forms(CPU)[0], endless, seconds=3600.0))
    )
    check.start()
    wait_for(lambda: measuring(check.pid or 0) != [])
    (measurement,) = measuring(check.pid or 0)
    time.sleep(15)  # it has begun
    command_line = Path(f"/proc/{measurement}/cmdline")
    assert command_line.read_bytes()
    check.terminate()
    check.join(60)
    assert check.exitcode == -signal.SIGTERM
    wait_for(lambda: not command_line.is_file() or not command_line.read_bytes(), 120)


def row(form: str, **measured: object) -> dict[str, object]:
    """A row of check_gpu.json."""
    empty = dict.fromkeys(("seconds", "memory_bytes", "share_of_product", "busy_share"))
    common = {"stage": 2, "size": "256 px", "form": form, "batch_size": 16, "kernels": [], "problem": ""}
    return {**empty, **common, **measured}


KERNELS = [["gemm", 0.6], ["copy", 0.1]]
RESULTS = {
    "date": "2026-01-02T03:04:05+00:00",
    "git_commit": "0123456789abcdef",
    "git_dirty": False,
    "card": {
        "name": "Card",
        "memory_bytes": 80 * 2**30,
        "cuda": "13.0",
        "cudnn": 92000,
        "processor": "processor",
        "versions": {"torch": "2.14.1"},
    },
    "problems": {"iterations": [], "compiled": ["stage 2, compiled: out | of memory"]},
    "iterations": [
        row("textbook, float32", seconds=0.8, memory_bytes=2**33),
        row("ours, bf16", seconds=0.1, memory_bytes=2**31, share_of_product=0.31, kernels=KERNELS, busy_share=0.9),
    ],
    "compiled": [row("ours compiled, bf16", problem="out | of memory")],
    "training": {
        "minutes": 5,
        "images_seen": 12345,
        "images_per_second": 678.9,
        "loader_share": 0.05,
        "psnr": [20.0, 24.5],
        "degraded_psnr": 24.2,
    },
}


def test_the_page_gets_what_was_measured_between_its_marks_and_keeps_the_rest(tmp_path: Path) -> None:
    page = tmp_path / "gpu.md"
    page.write_text(f"# GPUs\n\n{BEGIN}\n\nnothing yet\n\n{END}\n\nafter\n")
    for _ in range(2):
        write_table(page, RESULTS)
    text = page.read_text()
    assert text.startswith("# GPUs\n") and text.endswith("\n\nafter\n") and "nothing yet" not in text
    assert "Card, 80 GiB, CUDA 13.0, cuDNN 92000; processor; torch 2.14.1; 2026-01-02" in text
    assert "| stage 2, 256 px | textbook, float32 | 800.0 ms | 20.0 | 1.00 | 8.0 GiB | – |" in text
    assert "| stage 2, 256 px | ours, bf16 | 100.0 ms | 160.0 | 8.00 | 2.0 GiB | 31% |" in text
    assert "| stage 2, 256 px | ours compiled, bf16 | out / of memory | | | | |" in text
    assert "kernels run 90% of the time; `gemm` 60%, `copy` 10%" in text
    assert "12,345 images, 679 a second, 5% of the time" in text and "20.00 dB at the start, 24.50 dB" in text
    assert "- compiled: stage 2, compiled: out | of memory" in text
    page.write_text("# GPUs\n")
    with pytest.raises(ValueError, match="must hold the lines <!-- measured by"):
        write_table(page, RESULTS)


def test_a_failed_step_costs_no_other_one_and_earlier_figures_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("no faces")

    monkeypatch.setattr("benchmarks.gpu_check.measure_reading", fail)
    monkeypatch.setattr("benchmarks.gpu_check.draw_faces", lambda folder: folder)
    measured = [Figures(2, str(TINY), "ours, float32", 4, 0.5)]
    monkeypatch.setattr("benchmarks.gpu_check.in_another_process", lambda *_: measured)
    check = Check(CPU, None, tmp_path, None, minutes=1, plan=Plan((TINY,), SHORT))
    assert check.run(["iterations", "loader"]) == ["loader: ValueError: no faces"]
    monkeypatch.setattr("benchmarks.gpu_check.gpu_training.train", lambda *_: {"images_seen": 7})
    assert check.run(["training"]) == ["loader: ValueError: no faces"]
    written = json.loads((tmp_path / "check_gpu.json").read_text())
    assert [row["seconds"] for row in written["iterations"]] == [0.5, 0.5]
    assert written["training"] == {"minutes": 0.5, "images_seen": 7}


@pytest.mark.parametrize("content", ['{"problems": {', "[1]", '{"problems": 7}'])
def test_damaged_figures_of_an_earlier_check_end_in_a_line_with_the_file_and_the_way_out(
    tmp_path: Path, content: str
) -> None:
    (tmp_path / "check_gpu.json").write_text(content)
    with pytest.raises(ValueError, match=r"check_gpu\.json (is damaged|must hold).*move it away"):
        Check(CPU, None, tmp_path, None, minutes=1, plan=Plan((TINY,), SHORT)).run(["training"])
    assert (tmp_path / "check_gpu.json").read_text() == content


def test_a_machine_without_gpu_is_told_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"--device must be one that torch can use, got cuda; .* sees no GPU"):
        main()
    with pytest.raises(ValueError, match="--device must be such as cuda, cuda:1 or cpu, got card"):
        main(device="card")


@pytest.mark.slow
def test_the_check_runs_as_the_documents_have_it_with_a_cpu_in_the_place_of_the_gpu(
    tmp_path: Path, draw_faces: Callable[[Path], Path], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "gpu.md"
    page.write_text(f"{BEGIN}\n{END}\n")
    draw_faces(tmp_path / "FACES")
    architecture = "--model.init_args.architecture"
    training = (
        *("--model.class_path", "train.stages.restoration.RestorationTraining"),
        *(f"{architecture}.resolution", "32", f"{architecture}.narrow", "0.0625", f"{architecture}.style_dim", "32"),
        *("--model.init_args.degradation", "small", "--data.batch_size", "4", "--data.num_validation_faces", "2"),
        *("--run.total_images", "16", "--run.log_every_images", "8", "--run.validate_every_images", "8"),
    )
    plan = Plan((TINY,), SHORT, seconds_of_reading=0.1, training=training)
    monkeypatch.setattr("benchmarks.gpu_check.Check", partial(Check, plan=plan))
    here = ("--device", "cpu", "--faces", "FACES", "--output", "check", "--page", "gpu.md", "--minutes", "8")
    for line in lines_to_run("scripts.check_gpu"):  # those of all steps with one of them, as compiling takes minutes
        is_of_all = not {*STEPS} & {*line.words}
        run_line(run, line, *(["training" if "--faces" in line.words else "loader"] * is_of_all), *here)
    written = json.loads((tmp_path / "check" / "check_gpu.json").read_text())
    assert [(row["stage"], row["form"]) for row in written["iterations"]] == [
        (stage, form) for stage in (2, 1) for form in ("textbook, float32", "ours, float32")
    ]
    assert all(row["seconds"] > 0 for row in written["iterations"])
    for figures in written["iterations"]:
        if figures["form"].startswith("ours"):
            assert 0 < figures["share_of_product"] < 2 and 0 < figures["busy_share"] <= 1
            assert 1 <= len(figures["kernels"]) <= 8 and sum(share for _, share in figures["kernels"]) <= 1 + 1e-6
        else:
            assert figures["share_of_product"] is None and figures["kernels"] == []
    assert written["loader"]["images_per_second"] > 0 and written["loader"]["kind"] == "photographs"
    assert written["training"]["images_seen"] == 16 and len(written["training"]["psnr"]) == 2
    assert (tmp_path / "check" / "training.svg").read_bytes().startswith(b"<?xml")
    assert "### A short training" in page.read_text() and "### What failed" not in page.read_text()
