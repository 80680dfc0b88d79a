"""The logs of tasks that ran on a joined machine: it sends them, and the main machine keeps them as its own.

So Airflow's pages and `task-log` read them where they read all others, no worker needs a log server or a name that
resolves, and what was sent stays when the machine has gone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from airflow_celery_lab.configuration import files
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.configuration.membership import Membership

if TYPE_CHECKING:
    from httpx import Client

#: The route on the main machine, below its address; the log's path follows.
ROUTE = "/lab/logs"
#: Seconds between two looks for what is new.
INTERVAL = 1.0
#: As many times as long as a look takes is the pause after it: where many old logs lie, looking costs.
IDLE = 20
#: Seconds for the last look, when the machine leaves.
LAST = 10.0
#: Bytes in one request.
PART = 1_000_000
#: Seconds for one request.
PATIENCE = 10.0
#: Where a sender says at which byte of its log a part begins, and the receiver how many it has.
BEGIN, RECEIVED = "X-Lab-Begin", "X-Lab-Received"
SUFFIX = ".log"
#: Where Airflow has them, on each side.
LOG_FOLDER = "AIRFLOW__LOGGING__BASE_LOG_FOLDER"
#: HTTP: the receiver has not come to where the part begins.
TOO_FAR = 409


class Sender:
    """Sends what tasks write on this machine."""

    def __init__(self, lab: Lab, member: Membership, folder: Path, say: Callable[[str], None]) -> None:
        self._lab = lab
        self._folder = folder
        self._member = member
        self._say = say
        self._sent: dict[Path, int] = {}
        self._since = _beginning(lab)
        self._begun = time.time()
        self._pause = INTERVAL
        self._silent = False

    def run(self, asked: threading.Event) -> None:
        """Send until `asked`, and once more then."""
        with self._client() as client:
            while not asked.wait(self._pause):
                self._send(client)
            self._send(client)

    def _client(self) -> Client:
        import ssl

        import httpx

        context = ssl.create_default_context(cafile=str(self._lab.state.main_authority))
        return httpx.Client(
            base_url=self._member.base_url, verify=context, timeout=PATIENCE, trust_env=False, auth=credentials(self._member.broker_url)
        )

    def _send(self, client: Client) -> None:
        import httpx

        try:
            begin = time.monotonic()
            found = grown(self._folder, self._sent, self._since)
            self._pause = max(INTERVAL, IDLE * (time.monotonic() - begin))
            for path, size in found.items():
                self._send_file(client, path, size)
        except (httpx.HTTPError, OSError) as error:
            if not self._silent:
                self._say(f"lab: task logs cannot be sent to {self._member.address}, trying again: {error}")
            self._silent = True
        else:
            self._silent = False

    def _send_file(self, client: Client, path: Path, size: int) -> None:
        name = path.relative_to(self._folder).as_posix()
        # What lay there before, a former sender may have sent.
        begin = self._sent.get(path, size if path.stat().st_mtime < self._begun else 0)
        with path.open("rb") as file:
            while self._sent.get(path) != size:
                file.seek(begin)
                part = file.read(min(PART, size - begin))
                answer = client.put(f"{ROUTE}/{quote(name)}", content=part, headers={BEGIN: str(begin)})
                if answer.status_code == TOO_FAR:
                    begin = int(answer.headers[RECEIVED])
                    continue
                answer.raise_for_status()
                begin += len(part)
                self._sent[path] = begin


def grown(folder: Path, sent: dict[Path, int], since: float) -> dict[Path, int]:
    """Return the logs that have grown beyond what was `sent`, with their sizes; those that have not since `since` (epoch) are old."""
    found = {}
    for path in sorted(folder.glob(f"dag_id=*/**/*{SUFFIX}")):
        stat = path.stat()
        if stat.st_mtime >= since and stat.st_size > sent.get(path, 0):
            found[path] = stat.st_size
    return found


def _beginning(lab: Lab) -> float:
    """Return when this folder joined: what tasks wrote before is another lab's."""
    try:
        return lab.state.membership.stat().st_mtime
    except OSError:
        return time.time()


def credentials(broker_url: str) -> tuple[str, str]:
    """Return user and password of a machine that has joined: those with which it takes its messages."""
    split = urlsplit(broker_url)
    return unquote(split.username or ""), unquote(split.password or "")


def place(folder: Path, name: str) -> Path | None:
    """Return the file in `folder` for the log that a sender calls `name`; None for what is no task's log."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or path.suffix != SUFFIX or not path.parts[0].startswith("dag_id="):
        return None
    return folder / path


def take(log: Path, note: Path, begin: int, part: bytes) -> int | None:
    """Add a part, which begins at the sender's byte `begin`, to a log, as far as it is new.

    The log may have lines of the lab's own between what was sent; `note` is the file that says how much that was. Return how
    much it is where the part begins after that, and nothing is added.

    Raises:
        OSError: it cannot be written.

    """
    for path in (log, note):
        path.parent.mkdir(parents=True, exist_ok=True)
    received = int(note.read_text()) if note.exists() else 0
    if begin > received:
        return received
    new = part[received - begin :]
    with log.open("ab") as file:
        file.write(new)
    files.write(note, str(received + len(new)))
    return None
