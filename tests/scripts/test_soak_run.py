"""Runs of both stages that are killed at random moments end as if nobody had killed them."""

import subprocess
import sys
from pathlib import Path

import pytest

from train.run.soak import compare_stage, draw_faces

ROOT = Path(__file__).resolve().parents[2]


def test_the_comparison_of_a_soak_sees_a_picture_that_differs(tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        draw_faces(tmp_path / name / "samples")
    assert compare_stage("prior", tmp_path / "whole", tmp_path / "killed", 8) == (["40 pictures"], [])
    (tmp_path / "killed" / "samples" / "07.png").write_bytes(b"other")
    assert compare_stage("prior", tmp_path / "whole", tmp_path / "killed", 8)[1] == ["07.png"]


@pytest.mark.slow
def test_four_kills_change_no_bit_of_either_stage(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scripts.soak_run", "--output", str(tmp_path / "soak")]
    done = subprocess.run(
        [*command, "--kills", "2", "--images-between", "48"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for stage in ("prior", "restoration"):
        assert f"{stage}: 2 kills" in done.stdout
    assert done.stdout.count("equal bit for bit") == 2
