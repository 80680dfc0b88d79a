"""What was done to the lab by its commands and its Python: killed, paused, scaled and the like, a line each, for timelines."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from airflow_celery_lab.configuration import files
from airflow_celery_lab.configuration.state import State

#: Bytes beyond which the older half of the file is dropped: some thousand lines.
MOST = 256_000


class Act(NamedTuple):
    """One of them."""

    when: float  #: seconds since the epoch
    what: str  #: such as kill
    names: list[str]  #: of processes


def note(state: State, what: str, names: Iterable[str] = ()) -> None:
    """Write down what is being done to processes. A disk that is full does not stop it."""
    with suppress(OSError):
        state.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with state.journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps(Act(time.time(), what, list(names))._asdict()) + "\n")
        if state.journal.stat().st_size > MOST:
            lines = state.journal.read_text(encoding="utf-8").splitlines(keepends=True)
            files.write(state.journal, "".join(lines[len(lines) // 2 :]))


def read(state: State) -> list[Act]:
    """Return what was written down, the oldest first; a line that is cut or damaged is left out."""
    acts = []
    with suppress(OSError):
        for line in state.journal.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, TypeError):
                acts.append(Act(**json.loads(line)))
    return acts
