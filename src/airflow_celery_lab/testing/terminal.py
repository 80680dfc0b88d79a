"""A terminal in which a command runs, for tests of what people type."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from airflow_celery_lab.wait import wait_until

#: What a terminal is told of colours and places; none of it is text.
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
#: Seconds in which a command ends that was told to.
END = 90.0
CTRL_C, CTRL_D = "\x03", "\x04"


class Terminal:
    """A command's terminal: what it shows, and what is typed into it."""

    def __init__(self, descriptor: int, other_end: int, command: subprocess.Popen[bytes]) -> None:
        self.command = command
        self._descriptor = descriptor
        # Open until the command has ended: where nobody has a terminal open, there is nothing more to read.
        self._other_end: int | None = other_end
        self._shown = b""
        self._seen = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def text(self) -> str:
        """All that was shown so far, without colours."""
        return CONTROL.sub("", self._shown.decode(errors="replace")).replace("\r\n", "\n")

    def until(self, words: str, timeout: float = 60) -> str:
        """Wait until `words` are shown after what an earlier call has waited for, and return what was shown since then.

        Raises:
            NotReadyError: they are not, after `timeout` seconds; it has the end of what was.

        """
        wait_until(lambda: None if words in self.text[self._seen :] else f"it shows {self.text[-600:]!r}", timeout, repr(words))
        begin, self._seen = self._seen, self.text.index(words, self._seen) + len(words)
        return self.text[begin : self._seen]

    def type(self, text: str) -> None:
        """Type some letters."""
        os.write(self._descriptor, text.encode())

    def end(self) -> int:
        """Wait until the command has ended and all of its output is read, and return its exit status."""
        status = self.command.wait(END)
        if self._other_end is not None:
            os.close(self._other_end)
            self._other_end = None
        self._reader.join(END)
        return status

    def _read(self) -> None:
        with suppress(OSError):  # Linux says so at the end.
            while part := os.read(self._descriptor, 65536):
                self._shown += part


@contextmanager
def terminal(words: Sequence[str], folder: Path, environ: Mapping[str, str], columns: int) -> Iterator[Terminal]:
    """Run a command in a terminal of its own, so many columns wide; it is killed when the block ends."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    # The first terminal that the leader of a session opens is its own: there Ctrl-C reaches all of its processes.
    script = 'exec "$@" <"$0" >"$0" 2>&1'
    command = subprocess.Popen(
        ["sh", "-c", script, os.ttyname(theirs), *words], cwd=folder, env={**environ, "TERM": "xterm"}, start_new_session=True
    )
    shown = Terminal(ours, theirs, command)
    try:
        yield shown
    finally:
        if command.poll() is None:
            command.kill()
        shown.end()
        os.close(ours)
