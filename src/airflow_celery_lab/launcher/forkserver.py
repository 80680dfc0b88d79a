"""Asks the lab's forkserver for a process that has imported Airflow already: see docs/decisions/0043.

A request and an answer over a Unix socket in the state folder. With the request go the reaper's ends of the
pipes and what the process prints to; the answer is empty, or says why it cannot be.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from airflow_celery_lab.configuration.services import COMPONENTS, FORKSERVER, Service, describe
from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.launcher import reaper, registry
from airflow_celery_lab.launcher.guard import Interrupt
from airflow_celery_lab.launcher.reaper import Far, Reaper

#: macOS's libraries do not bear a fork after imports.
IS_FOR_THIS_SYSTEM = sys.platform == "linux"
#: Seconds that the forkserver has to appear: a supervisor starts all processes at once.
PATIENCE = 2.0
#: Seconds that it has to import Airflow, which takes 1.5 on an idle machine, and to answer from then on, which takes some milliseconds.
LIMIT, ANSWER = 30.0, 10.0
#: Seconds between two tries to reach it, and between two looks whether it lives.
INTERVAL, LOOK = 0.05, 0.5
#: Seconds for the rest of a message whose beginning has come.
REST = 5.0
#: Of a request: the ends of four pipes, and two files for what the process prints.
FILES = 6
LENGTH = struct.Struct("!I")


class Refused(Exception):  # noqa: N818  # no failure: the process imports Airflow by itself
    """There is no forkserver (then it has no words), or it says why it does not fork this process."""


class Request(NamedTuple):
    """What the forkserver is asked for."""

    command: Sequence[str]  #: the words after `exec`
    environ: Mapping[str, str]
    ends: Far
    output: tuple[int, int]


def may_serve(service: Service, command: Sequence[str]) -> bool:
    """Return whether a program is one that the forkserver can become."""
    return IS_FOR_THIS_SYSTEM and command[0] == "airflow" and (service.kind in COMPONENTS or service.kind == "worker")


def ask(
    state: State, command: Sequence[str], environ: Mapping[str, str], interrupt: Interrupt, expected: Callable[[], bool]
) -> Reaper | None:
    """Have the forkserver fork the reaper and the program of `command`; None when the end was wanted meanwhile.

    Whether one is `expected` the Procfile says, which is read where none lives.

    Raises:
        Refused: the process has to import Airflow by itself.

    """
    began = look = time.monotonic()
    lives, limit = False, 0.0
    while True:
        with closing(socket.socket(socket.AF_UNIX)) as connection:
            if _connects(connection, state) and (started := _ask(connection, command, environ, interrupt)):
                return started
        if interrupt.wait(INTERVAL):
            return None
        if (now := time.monotonic()) >= look:
            look, lives = now + LOOK, _lives(state)
            limit = LIMIT if lives else PATIENCE if expected() else 0.0
        if now - began > limit:
            raise Refused(f"the forkserver has not answered for {limit:g} s" if lives else "")


def answers(state: State) -> bool:
    """Return whether the forkserver has imported Airflow: it listens from then on."""
    if not IS_FOR_THIS_SYSTEM:
        return True
    with closing(socket.socket(socket.AF_UNIX)) as connection:
        return _connects(connection, state)


def listen(state: State) -> socket.socket:
    """Return the socket on which the forkserver listens."""
    listener = socket.socket(socket.AF_UNIX)
    state.forkserver.unlink(missing_ok=True)
    with _short(state.forkserver) as path:
        listener.bind(path)
    listener.listen(64)
    return listener


def receive(connection: socket.socket) -> Request | None:
    """Return what is asked for, None where nobody asks for anything."""
    connection.settimeout(REST)
    files: list[int] = []
    try:
        head, files, _, _ = socket.recv_fds(connection, LENGTH.size, FILES)
        for file in files:
            os.set_inheritable(file, False)  # noqa: FBT003  # the pipe for reports is closed by an exec
        if len(files) == FILES:
            size = LENGTH.unpack(head)[0]
            data = b""
            while len(data) < size and (more := connection.recv(size - len(data))):
                data += more
            if len(data) == size:
                command, environ = json.loads(data)
                return Request(command, environ, Far(*files[:4]), (files[4], files[5]))
    except OSError:
        pass  # It has gone, or says no more.
    for file in files:
        os.close(file)
    return None


def answer(connection: socket.socket, refusal: str = "") -> None:
    """Answer a request."""
    with suppress(OSError):  # It may have been ended meanwhile.
        connection.sendall(f"{refusal}\n".encode())


def _ask(connection: socket.socket, command: Sequence[str], environ: Mapping[str, str], interrupt: Interrupt) -> Reaper | None:
    """Return what was started, None where the answer did not come."""
    pipes = reaper.pipes()
    said = None
    try:
        data = json.dumps([list(command), dict(environ)]).encode()
        socket.send_fds(connection, [LENGTH.pack(len(data))], [*pipes.far, 1, 2])
        connection.sendall(data)
        if not interrupt.wait(ANSWER, connection.fileno()):
            connection.settimeout(0.0)
            said = connection.recv(4096).decode(errors="replace")
    except BlockingIOError:
        said = f"the forkserver has not answered for {ANSWER:g} s"
    except OSError:
        pass  # It has ended, or begins again.
    if said == "\n":
        return pipes.born()
    pipes.close()
    if said:
        raise Refused(said.strip())
    return None


def _connects(connection: socket.socket, state: State) -> bool:
    try:
        with _short(state.forkserver) as path:
            connection.connect(path)
    except OSError:
        return False
    return True


def _lives(state: State) -> bool:
    return any(describe(record.command).kind == FORKSERVER for record in registry.running(state).values())


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """Give a socket a short name, however long its path is: the address has room for a hundred characters."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
