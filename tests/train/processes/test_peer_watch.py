"""Processes that watch each other: a killed, a stopped and a failing one each end the others with a reason."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROCESS = """
import json, sys, time
from pathlib import Path
from train.processes import peer_watch
peer_watch.BEAT_SECONDS, peer_watch.SILENT_BEATS = 0.2, 10
rank, number, meeting = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])

def broadcast(value):
    if rank == 0:
        meeting.with_suffix(".new").write_text(json.dumps(value))
        meeting.with_suffix(".new").rename(meeting)
    while not meeting.is_file():
        time.sleep(0.02)
    return tuple(json.loads(meeting.read_text()))

watch = peer_watch.PeerWatch(rank, number, "127.0.0.1", broadcast)
print("connected", flush=True)
for command in sys.stdin:
    if command.startswith("stop"):
        watch.stop()
    elif command.startswith("fail"):
        watch.fail("the disk is full", 2)
        sys.exit(2)
    else:
        sys.exit(0)
"""
Start = Callable[[int], list["subprocess.Popen[str]"]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts so many processes that watch each other."""
    processes: list[subprocess.Popen[str]] = []

    def run(number: int) -> list["subprocess.Popen[str]"]:
        for rank in range(number):
            command = [sys.executable, "-c", PROCESS, str(rank), str(number), str(tmp_path / "meeting")]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            processes.append(subprocess.Popen(command, cwd=ROOT, text=True, **pipes))  # type: ignore[call-overload]
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == "connected\n"
        return processes

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def errors_of(process: "subprocess.Popen[str]") -> str:
    """Waits for the end of a process whose input stays open."""
    process.wait(60)
    assert process.stderr is not None
    return process.stderr.read()


def tell(process: "subprocess.Popen[str]", command: str) -> None:
    assert process.stdin is not None
    process.stdin.write(command + "\n")
    process.stdin.flush()


@pytest.mark.parametrize("victim", [0, 2])
def test_a_killed_process_ends_all_others_with_a_reason_and_the_code_of_a_lost_process(
    start: Start, victim: int
) -> None:
    processes = start(3)
    os.kill(processes[victim].pid, signal.SIGKILL)
    for rank, process in enumerate(processes):
        if rank != victim:
            errors = errors_of(process)
            assert process.returncode == 138
            assert f"process {victim} " in errors and "lost" in errors and errors.count("\n") == 1


def test_a_process_that_is_not_heard_of_is_lost(start: Start) -> None:
    first, second = start(2)
    os.kill(second.pid, signal.SIGSTOP)
    errors = errors_of(first)
    assert first.returncode == 138
    assert "process 1 of the run was not heard of for 2 seconds; the same command continues" in errors


def test_an_error_of_one_process_is_told_to_all_with_its_exit_code(start: Start) -> None:
    first, second, third = start(3)
    tell(second, "fail")
    for process in (first, third):
        errors = errors_of(process)
        assert process.returncode == 2 and errors == "error: process 1 ended: the disk is full\n"


def test_processes_that_are_done_may_end_one_after_the_other(start: Start) -> None:
    processes = start(3)
    for process in processes:
        tell(process, "stop")
    time.sleep(0.5)
    for process in processes:
        tell(process, "exit")
        assert process.wait(60) == 0
        time.sleep(0.5)  # the others notice the closed connection


def test_somebody_without_the_token_is_no_process_of_the_run() -> None:
    import socket
    import threading

    from train.processes.peer_watch import _accept

    server = socket.create_server(("127.0.0.1", 0))
    port, peers = server.getsockname()[1], []
    thread = threading.Thread(target=lambda: peers.extend(_accept(server, "secret", 1)))
    thread.start()
    with (
        socket.create_connection(("127.0.0.1", port)) as stranger,
        socket.create_connection(("127.0.0.1", port)) as own,
    ):
        stranger.sendall(b"guess 7\n")
        own.sendall(b"secret 1\n")
        thread.join(30)
    assert [peer.rank for peer in peers] == [1]
