"""The demo in a short form, as `make demo` runs it."""

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

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
    done = run("scripts.run_demo", "--faces", str(faces), "--output", str(output), *lengths)
    assert done.returncode == 0, done.stderr
    assert "decoder from " + str(PRIOR) in done.stdout

    figures = json.loads((output / "metrics.json").read_text())
    assert set(figures) == {"degraded", "restored", "export", "seconds"}
    assert 15 < figures["degraded"]["psnr"] < 35
    assert 0 < figures["restored"]["ssim"] < 1
    assert figures["export"]["onnx_max_difference"] < 1e-4
    assert figures["export"]["torchscript_max_difference"] < 1e-4

    page = Sources()
    page.feed((output / "report.html").read_text())
    assert len(page.sources) >= 6
    assert all(source.startswith("data:image/") for source in page.sources)

    again = run("scripts.run_demo", "--faces", str(faces), "--output", str(output), *lengths)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("is complete") == 2
    repeated = json.loads((output / "metrics.json").read_text())
    assert {k: repeated[k] for k in ("degraded", "restored")} == {k: figures[k] for k in ("degraded", "restored")}


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
