"""What happens before the first iteration: a warning of emulated precision, Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_ctrl_c_during_start_up_ends_in_one_line(tmp_path: Path) -> None:
    """The stand-in for the heavy imports says when it is being imported, and takes long."""
    (tmp_path / "sitecustomize.py").write_text(
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a job in the background starts with it ignored
        "class Slow:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch':\n"
        "            import time\n"
        "            open('" + str(tmp_path / "ready") + "', 'w').close()\n"
        "            time.sleep(60)\n"
        "sys.meta_path.insert(0, Slow())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "train", "fit", "--config", "configs/prior_64.yaml", "--data.faces", str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "ready").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == "interrupted\n" and process.returncode == 130


@pytest.mark.parametrize(("native", "number"), [(("32-true",), 1), (("32-true", "bf16-mixed"), 0)])
def test_bf16_that_the_processor_emulates_is_warned_of_once_with_its_cost_and_obeyed(
    native: tuple[str, ...],
    number: int,
    train: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("system.machine.native_precisions", lambda on_gpu=False: native)
    monkeypatch.setattr("system.machine.bf16_factor", lambda on_gpu=False: 13.4)
    train("prior", tmp_path, "--run.total_images", 4, "--trainer.precision", "bf16-mixed")
    output = capsys.readouterr().out
    warning = "emulates bf16: convolutions take 13 times as long as with --trainer.precision 32-true"
    assert output.count(warning) == number
    assert "\nprecision: bf16-mixed (" in output


def test_weights_and_biases_is_loaded_by_those_runs_alone_that_have_it() -> None:
    code = "import sys, train.training, train.stages.restoration; print('wandb' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert output == "False\n"
