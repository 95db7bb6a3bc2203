"""The demo in a short form, as `make demo` runs it."""

import json
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.test_documents import lines_to_run

ROOT = Path(__file__).resolve().parents[2]
PRIOR = ROOT / "weights" / "prior_64.safetensors"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


class Sources(HTMLParser):
    """Collects what a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]


@pytest.mark.slow
def test_the_demo_trains_measures_exports_and_reports_on_a_few_faces(tmp_path: Path) -> None:
    faces, output = tmp_path / "faces", tmp_path / "demo"
    drawn = run("scripts.render_faces", "--checkpoint", str(PRIOR), "--output", str(faces), "--number", "40")
    assert drawn.returncode == 0, drawn.stderr
    lengths = ("--prior-images", "64", "--restoration-images", "128")
    (line,) = lines_to_run("scripts.run_demo", in_sentences=True)
    options = [*line.words[3:], "--faces", str(faces), "--output", str(output), *lengths]
    done = run("scripts.run_demo", *options)
    assert done.returncode == 0, done.stderr
    assert "decoder from " + str(PRIOR) in done.stdout

    figures = json.loads((output / "metrics.json").read_text())
    assert set(figures) == {"degraded", "restored", "export", "seconds"}
    assert 15 < figures["degraded"]["psnr"] < 35
    assert 0 < figures["restored"]["ssim"] < 1
    assert figures["export"]["onnx_max_difference"] < 1e-4
    assert figures["export"]["torchscript_max_difference"] < 1e-4

    page, text = Sources(), (output / "report.html").read_text()
    is_worse = figures["restored"]["psnr"] < figures["degraded"]["psnr"]  # by dB after so few images
    for words in ("The restored faces are worse than the degraded ones", "--minutes 25 --output runs/longer"):
        assert (words in done.stdout, words in text) == (is_worse, is_worse)
    page.feed(text)
    assert len(page.sources) >= 6
    assert all(source.startswith("data:image/") for source in page.sources)

    again = run("scripts.run_demo", *options)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("is complete") == 2
    repeated = json.loads((output / "metrics.json").read_text())
    assert {k: repeated[k] for k in ("degraded", "restored")} == {k: figures[k] for k in ("degraded", "restored")}


def hear_the_terminal() -> None:
    """Tests under nohup have SIGHUP ignored."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def children_of(folder: Path) -> list[int]:
    """Numbers of the processes whose command line names a folder."""
    commands = {int(p.parent.name): p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if p.is_file()}
    return [number for number, words in commands.items() if str(folder).encode() in words]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are looked up in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_a_demo_that_is_stopped_leaves_no_process_behind_and_its_training_has_saved(
    number: signal.Signals, tmp_path: Path
) -> None:
    faces, output = tmp_path / "faces", tmp_path / "demo"
    drawn = run("scripts.render_faces", "--checkpoint", str(PRIOR), "--output", str(faces), "--number", "40")
    assert drawn.returncode == 0, drawn.stderr
    options = ["--faces", str(faces), "--output", str(output), "--prior-images", "64000"]
    with (tmp_path / "log").open("wb") as log:
        command = [sys.executable, "-m", "scripts.run_demo", *options]
        demo = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, preexec_fn=hear_the_terminal)
        deadline = time.monotonic() + 240
        while not any((output / "prior").glob("samples/*.png")):
            assert demo.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.1)
        time.sleep(2)  # into the first iterations
        demo.send_signal(number)
        assert demo.wait(120) == (-number if number == signal.SIGKILL else 128 + number)
    while children_of(output):
        assert time.monotonic() < deadline + 60, children_of(output)
        time.sleep(0.1)
    assert list((output / "prior" / "checkpoints").glob("images_*.ckpt"))
    assert json.loads((output / "demo.json").read_text())["prior_images"] == 64_000


def test_faces_drawn_by_the_shipped_prior_depend_on_seed_and_index_alone(tmp_path: Path) -> None:
    from inference.drawing import render_faces

    render_faces(PRIOR, tmp_path / "a", 5, seed=3)
    (tmp_path / "a" / "000003.png").unlink()
    before = (tmp_path / "a" / "000001.png").read_bytes()
    (tmp_path / "a" / "000004.png").write_bytes(b"drawn by somebody else")
    render_faces(PRIOR, tmp_path / "a", 5, seed=3)
    render_faces(PRIOR, tmp_path / "b", 5, seed=3)
    render_faces(PRIOR, tmp_path / "c", 1, seed=4)
    assert before == (tmp_path / "b" / "000001.png").read_bytes()
    assert (tmp_path / "a" / "000003.png").is_file()
    assert (tmp_path / "a" / "000004.png").read_bytes() == b"drawn by somebody else"
    assert (tmp_path / "b" / "000000.png").read_bytes() != (tmp_path / "c" / "000000.png").read_bytes()
