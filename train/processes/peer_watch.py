"""The processes of a run watch each other: collectives would wait for a lost one until their own long timeout."""

import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from signal import Signals
from typing import Any

from system.command_line import LOST_PROCESS_CODE

BEAT_SECONDS = 1.0
SILENT_BEATS = 30
"""A peer is lost after so many beats without a word. Counted in own beats, so that a paused machine loses nobody."""
CONNECT_SECONDS = 60.0
BEAT, END, FAILURE = b"beat\n", b"end\n", b"failure "


@dataclass
class _Peer:
    rank: int
    connection: socket.socket
    silent_beats: int = 0
    has_ended: bool = False
    received: bytes = b""


class PeerWatch:
    """Connects the first process, at its address, with each other one; whoever loses a peer says so and ends its own
    process. `broadcast` hands an object of the first process to all; children are processes that this one started, in
    the order of their ranks from 1 on."""

    def __init__(
        self,
        rank: int,
        num_processes: int,
        main_address: str,
        broadcast: Callable[[Any], Any],
        children: Sequence["subprocess.Popen[bytes]"] = (),
    ) -> None:
        self.rank = rank
        self._children = children
        self._stopped = threading.Event()
        server = socket.create_server(("", 0), backlog=num_processes) if rank == 0 else None
        port, token = broadcast((server.getsockname()[1], secrets.token_hex(16)) if server else None)
        if server:
            self._peers = _accept(server, token, num_processes - 1)
        else:
            connection = socket.create_connection((main_address, port), CONNECT_SECONDS)
            connection.sendall(f"{token} {rank}\n".encode())
            self._peers = [_Peer(0, connection)]
        for peer in self._peers:
            peer.connection.setblocking(False)
        self._thread = threading.Thread(target=self._watch, daemon=True, name="peer watch")
        self._thread.start()

    def stop(self) -> None:
        """Ends the watch: this process has done its work."""
        self._send(END)
        self._stopped.set()

    def fail(self, reason: str, exit_code: int) -> None:
        """Tells the peers that this process ends with an error, so that they do the same."""
        failure = {"rank": self.rank, "reason": reason, "exit_code": exit_code}
        self._send(FAILURE + json.dumps(failure).encode() + b"\n")
        self._stopped.set()

    def wait_for_reason(self) -> None:
        """After an error of a collective: gives the watch the time to find out who was lost and to end the process."""
        time.sleep((SILENT_BEATS + 5) * BEAT_SECONDS)

    def _watch(self) -> None:
        while not self._stopped.wait(BEAT_SECONDS):
            self._send(BEAT)
            for peer in self._peers:
                if not peer.has_ended:
                    self._listen(peer)

    def _listen(self, peer: _Peer) -> None:
        try:
            data = peer.connection.recv(65536)
        except BlockingIOError:
            peer.silent_beats += 1
            if peer.silent_beats >= SILENT_BEATS:
                self._lose(peer, f"was not heard of for {SILENT_BEATS * BEAT_SECONDS:.0f} seconds")
            return
        except OSError:
            data = b""
        if not data:
            self._lose(peer, self._how_it_ended(peer.rank))
            return
        peer.silent_beats = 0
        *lines, peer.received = (peer.received + data).split(b"\n")
        for line in lines:
            if line == END.strip():
                peer.has_ended = True
            elif line.startswith(FAILURE):
                failure = json.loads(line.removeprefix(FAILURE))
                self._end(f"process {failure['rank']} ended: {failure['reason']}", failure["exit_code"], failure)

    def _how_it_ended(self, rank: int) -> str:
        if 0 < rank <= len(self._children):
            try:
                code = self._children[rank - 1].wait(2 * BEAT_SECONDS)
            except subprocess.TimeoutExpired:
                return "closed its connection"
            if code < 0:
                return f"was killed by {Signals(-code).name} (SIGKILL often means that memory ran out)"
            return f"ended with exit code {code}"
        return "was lost (its connection closed)"

    def _lose(self, peer: _Peer, how: str) -> None:
        if self._stopped.wait(2 * BEAT_SECONDS):  # this process is ending by itself
            return
        reason = f"process {peer.rank} of the run {how}; the same command continues from the last checkpoint"
        failure = {"rank": peer.rank, "reason": how, "exit_code": LOST_PROCESS_CODE}
        self._end(reason, LOST_PROCESS_CODE, failure)

    def _end(self, reason: str, exit_code: int, failure: dict[str, Any]) -> None:
        self._send(FAILURE + json.dumps(failure).encode() + b"\n")  # from the first process to all others
        print(f"error: {reason}", file=sys.stderr, flush=True)
        os._exit(exit_code)  # the main thread may wait in a collective for ever

    def _send(self, message: bytes) -> None:
        for peer in self._peers:
            if not peer.has_ended:
                try:
                    peer.connection.sendall(message)
                except OSError:
                    continue  # listening will tell what became of it


def _accept(server: socket.socket, token: str, number: int) -> list[_Peer]:
    """Waits for the other processes; connections without the token are none of ours."""
    server.settimeout(CONNECT_SECONDS)
    peers: list[_Peer] = []
    while len(peers) < number:
        connection, _ = server.accept()
        connection.settimeout(CONNECT_SECONDS)
        with connection.makefile("rb") as stream:
            given, _, rank = stream.readline(100).decode(errors="replace").partition(" ")
        if secrets.compare_digest(given.encode(), token.encode()):
            peers.append(_Peer(int(rank), connection))
        else:
            connection.close()
    server.close()
    return peers
