"""A program with every kind of descendant. Prints the kind and pid of each, and waits to be stopped.

Run with the argument `stubborn`, none of them hears a stop signal.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn


def stay(kind: str) -> NoReturn:
    print(f"{kind} {os.getpid()}.", flush=True)
    while True:
        signal.pause()


def become_daemon() -> None:
    os.setsid()
    if os.fork():
        os._exit(0)


if sys.argv[1:] == ["stubborn"]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
for kind, prepare in (("child", os.getpid), ("own-group", os.setpgrp), ("own-session", os.setsid), ("daemon", become_daemon)):
    if os.fork() == 0:
        prepare()
        stay(kind)
stay("program")
