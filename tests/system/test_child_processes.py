"""Processes that a command starts end with it, whichever way it ends."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from system.child_processes import ENDING_SIGNALS, PARENT, Children
from tests.fixtures.noting_child import ENDED_CODE, NOTING_CHILD, noted, wait_for

ROOT = Path(__file__).resolve().parents[2]
WRAPPER = """
import signal, sys
from system.child_processes import Children

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests under nohup have it ignored
with Children() as children:
    children.finish(children.start([sys.argv[1], sys.argv[2]]))
"""


@pytest.fixture
def wrapper(tmp_path: Path) -> "subprocess.Popen[bytes]":
    """A process that has started another one, which notes in `child.txt` what became of it."""
    (tmp_path / "wrapper.py").write_text(WRAPPER)
    command = [sys.executable, str(tmp_path / "wrapper.py"), NOTING_CHILD, str(tmp_path / "child.txt")]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
    wait_for(lambda: note(tmp_path).isdigit())
    return process


def note(folder: Path) -> str:
    return noted(folder / "child.txt")


@pytest.mark.parametrize("number", list(ENDING_SIGNALS))
def test_a_signal_is_passed_on_and_told_by_the_exit_code_after_the_child_has_ended(
    number: signal.Signals, wrapper: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    wrapper.send_signal(number)
    assert wrapper.wait(60) == 128 + number
    assert note(tmp_path) == f"ended by {int(number)}"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process that its parent is gone")
def test_a_child_is_told_to_end_when_the_wrapper_is_killed(wrapper: "subprocess.Popen[bytes]", tmp_path: Path) -> None:
    wrapper.kill()
    assert wrapper.wait(60) == -signal.SIGKILL
    wait_for(lambda: note(tmp_path) == f"ended by {int(signal.SIGTERM)}")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process that its parent is gone")
def test_a_child_whose_wrapper_is_gone_before_it_begins_ends_at_once(tmp_path: Path) -> None:
    command = [sys.executable, NOTING_CHILD, str(tmp_path / "child.txt")]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT), PARENT: "1"}, timeout=60)
    assert done.returncode == 128 + signal.SIGTERM
    assert note(tmp_path) == ""


def test_an_error_of_the_wrapper_ends_what_it_started(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="something else went wrong"), Children() as children:
        child = children.start([NOTING_CHILD, str(tmp_path / "child.txt")])
        wait_for(lambda: note(tmp_path).isdigit())
        raise ValueError("something else went wrong")
    assert child.returncode == ENDED_CODE and note(tmp_path) == f"ended by {int(signal.SIGTERM)}"


def test_signals_mean_again_what_they_meant_before() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Children() as children:
        assert signal.getsignal(signal.SIGTERM) is not before
        assert children.finish(children.start(["-c", "import sys; sys.exit(3)"])) == 3
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_end_of_a_terminal_is_no_error_for_what_is_printed_afterwards(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, time; from system.child_processes import take_signals; from pathlib import Path\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "def end(number, frame):\n"
        "    print('ending after this iteration', flush=True)\n"
        "    Path(sys.argv[1]).write_text('saved')\n"
        "    sys.exit(128 + number)\n"
        "take_signals(end)\n"
        "Path(sys.argv[1]).write_text('ready')\n"
        "time.sleep(60)\n"
    )
    terminal, end_of_process = pty.openpty()
    command = [sys.executable, "-c", code, str(tmp_path / "child.txt")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=end_of_process, stderr=end_of_process)
    os.close(end_of_process)
    wait_for(lambda: note(tmp_path) == "ready")
    os.close(terminal)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 128 + signal.SIGHUP and note(tmp_path) == "saved"


def test_a_command_that_nohup_has_started_outlives_its_terminal() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Children() as children:
            os.kill(os.getpid(), signal.SIGHUP)
            assert children.stopped_by == 0 and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert (
                children.finish(children.start(["-c", "import os, signal; os.kill(os.getpid(), signal.SIGHUP)"])) == 0
            )
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_a_child_starts_has_no_parent_of_the_wrapper_to_end_with(tmp_path: Path) -> None:
    code = (
        "import os; from system.child_processes import PARENT, end_with_parent; assert PARENT in os.environ; "
        "end_with_parent(); assert PARENT not in os.environ"
    )
    with Children() as children:
        assert children.finish(children.start(["-c", code])) == 0
