"""What the benchmark times is what it says it times."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import iterations
from benchmarks.contenders import Contender, Part, Timing, time_in_turns
from benchmarks.faces import degrade_with_opencv
from benchmarks.iterations import Iterations, record, replay
from benchmarks.rows import ROWS, Machine, Point, begin, growth_sizes, plot_growth
from data.degradation.presets import load_preset
from data.degradation.sampling import sample_parameters
from data.degradation.synthesis import degrade
from scripts.benchmark import main
from system import command_line
from system.live_progress import ignore_step
from system.machine import ROOT
from tests.scripts.small_benchmark import TINY
from tests.test_documents import Line, identifier, lines_to_run


def test_floor_counts_dense_convolutions_forward_and_backward_without_filters() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 2, 1), nn.Conv2d(2, 2, 1))
    network.to(memory_format=torch.channels_last)
    images = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)
    calls = record(lambda: network(images).square().sum().backward())
    shapes = sorted((str(call[0]), call[2 if "backward" not in str(call[0]) else 3][1]) for call in calls)
    dense = [(2, 2, 1, 1), (2, 4, 1, 1), (4, 3, 3, 3)]
    assert shapes == [(f"aten.convolution{kind}.default", shape) for kind in ("", "_backward") for shape in dense]
    assert set(calls.values()) == {1}
    assert record(replay(calls)) == calls  # the same work in the same layout


def test_an_iteration_has_fewer_convolutions_than_one_with_lazy_terms() -> None:
    run = Iterations(2, TINY, "32-true").run
    plain, penalized = (record(partial(run, r1=lazy, path_length=lazy)).total() for lazy in (False, True))
    # Encoder 4, synthesis 7, discriminator 3 · 3 + 2: forward in three passes (restored, both, judged), then backward.
    assert plain == 2 * (4 + 7 + 11 + 11)
    assert penalized > 1.5 * plain


@pytest.mark.parametrize("stage", [1, 2])
def test_all_contenders_of_an_iteration_run_and_cover_it_once(stage: iterations.Stage) -> None:
    ours = iterations.ours(stage, TINY, "bf16-mixed")
    assert sum(part.share for part in ours) == pytest.approx(1)
    forms: tuple[Sequence[Part], ...] = (ours, iterations.textbook(stage, TINY))
    for parts in (*forms, iterations.floor(stage, TINY, "32-true")):
        for part in parts:
            part.run()


def test_contenders_are_timed_in_turns_with_the_shares_of_their_parts() -> None:
    short = Contender("short", list, ([Part(partial(time.sleep, 0.05))],), 1)
    parts = [Part(partial(time.sleep, 0.1)), Part(partial(time.sleep, 0.2), 0.5)]
    steps: list[tuple[object, ...]] = []
    timings = time_in_turns([short, Contender("long", list, (parts,), 1)], 2, lambda *step: steps.append(step))
    assert [t.name for t in timings] == ["short", "long"] and [len(t.seconds) for t in timings] == [2, 2]
    assert timings[0].median >= 0.05 and timings[1].median >= 0.2  # 0.1 + 0.2 / 2
    assert sum(timings[1].seconds) < 2 * 0.3 or sum(timings[0].seconds) > 2 * 0.1  # all slow on a busy machine
    assert steps[-4:] == [("runs", number, 4) for number in range(4)]


def test_a_contender_that_fails_is_named() -> None:
    with pytest.raises(ChildProcessError, match="broken failed"):
        time_in_turns([Contender("broken", list, ([Part(partial(int, "x"))],), 1)], 1, ignore_step)


def test_the_opencv_chain_degrades_as_the_projects_own() -> None:
    random = torch.Generator().manual_seed(0)
    grey, colour = torch.rand(1, 1, 9, 9, generator=random), torch.rand(1, 3, 9, 9, generator=random)
    coarse = 0.85 * grey + 0.15 * colour
    face = nn.functional.interpolate(coarse, size=(128, 128), mode="bicubic").clamp(0, 1)
    for k in range(8):
        parameters = sample_parameters(load_preset("released"), 0, k, 128)
        (one,) = parameters.rounds
        silent = replace(parameters, rounds=(replace(one, noise_sigma=0.0),), grey=False)
        expected = degrade_with_opencv(face[0].permute(1, 2, 0).flip(-1).contiguous().numpy(), silent)
        degraded = degrade(face * 2 - 1, [silent]).degraded
        difference = (degraded[0].permute(1, 2, 0).flip(-1) + 1) / 2 - torch.from_numpy(expected)
        assert -10 * torch.log10(difference.square().mean()) > 33


def test_growth_is_drawn_for_every_number_of_threads() -> None:
    points = [
        Point(size, threads, Timing("", [size.batch_size / threads], 2**30))
        for size in growth_sizes()
        for threads in (1, 2)
    ]
    svg = plot_growth(points).decode()
    assert len(growth_sizes()) == 8 and "<svg" in svg


def test_unknown_rows_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.run(main, ["nonsense"])
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.count("\n") == 1
    assert "nonsense" in error and "training" in error and "export" in error


@pytest.mark.parametrize("option", ["output", "growth"])
def test_figures_are_replaced_only_when_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    output = tmp_path / "figures"
    output.write_text("earlier")
    called: list[Path] = []
    monkeypatch.setattr("benchmarks.rows.draw_growth", lambda *values: called.append(values[-1]))
    monkeypatch.setattr("benchmarks.rows.time_rows", lambda *values: called.append(values[-1]))
    with pytest.raises(ValueError, match=r"figures exists already; choose another name or add --overwrite"):
        main(**{option: output})
    assert not called
    main(**{option: output}, overwrite=True)
    assert called == [output]


@pytest.mark.parametrize("native", [("32-true",), ("32-true", "bf16-mixed")], ids=["float32", "float32 and bf16"])
def test_a_precision_that_the_processor_would_emulate_is_not_timed_and_named(
    native: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.rows.native_precisions", lambda: native)
    first = next(iter(ROWS["training"](Machine(1, None))))
    names = [contender.name for contender in first.contenders]
    assert names[:3] == ["textbook float32", "ours float32", "convolutions float32"]
    assert names[3:] == ["ours bf16", "convolutions bf16"] * (len(native) - 1)
    begin(1)
    assert ("this processor would emulate bf16" in capsys.readouterr().out) == (len(native) == 1)


@pytest.mark.slow
@pytest.mark.parametrize("line", lines_to_run("scripts.benchmark"), ids=identifier)
def test_the_benchmark_runs_as_the_documents_have_it(
    line: Line, draw_faces: Callable[[Path], Path], tmp_path: Path
) -> None:
    for name in ("FACES", "OTHERS"):
        draw_faces(tmp_path / name)
    short = ["--rounds", "1", "--threads", "1", "--faces", "FACES"]
    if "--time_to_quality" in line.words:
        short += ["--minutes", "0.01"]
    module = "tests.scripts.small_benchmark"  # of its own: a contender that fails would end this process with it
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", module, *line.words[3:], *short],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout and "error" not in done.stderr, (line, done.stderr)
