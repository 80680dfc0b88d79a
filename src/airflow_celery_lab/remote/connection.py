"""A connection that is relayed: two ends, and what is on its way between them."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from airflow_celery_lab.configuration.links import CLEAN, Condition

#: Bytes that wait for their time in one direction of one connection, before its sender is no longer read.
MOST_WAITING = 1 << 20


class End(asyncio.Protocol):
    """One end of a connection, with what has come from it and is on its way to the other."""

    def __init__(self, condition: Callable[[], Condition], ends: set[End]) -> None:
        """Obey `condition`, and stay among `ends` for as long as the end is open or something has yet to be carried from it."""
        self.lost = asyncio.Event()  #: set when it is closed
        self.is_full = False  #: takes no more now
        self._condition = condition
        self._ends = ends
        self._transport: Any = None  # TLS and plain transports have no type in common that has all of it.
        self._other: End | None = None
        #: When each piece has come: bytes, or what is to be done with the other end.
        self._way: deque[tuple[float, bytes | Callable[[End], None]]] = deque()
        self._waiting = 0  #: bytes
        self._has_ended = False  #: says no more
        self._is_read = True
        self._timer: asyncio.TimerHandle | None = None

    @property
    def socket(self) -> socket.socket:
        """What it is connected by."""
        return self._transport.get_extra_info("socket")  # type: ignore[no-any-return]  # the transport's promise

    def join(self, other: End) -> None:
        """Carry what comes from one end to the other, from now on."""
        self._other, other._other = other, self
        for end in (self, other):
            self._ends.add(end)  # It may have been closed by now, with something yet to be carried.
            end.carry()

    def carry(self) -> None:
        """Hand over what is due now, see that this is done again when the next piece is, and read on or not."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        other, condition = self._other, self._condition()
        while other and self._way and not condition.cut and not other.is_full:
            arrived, piece = self._way[0]
            left = arrived + condition.delay - time.monotonic() if condition.delay else 0.0
            if left > 0:
                self._timer = asyncio.get_running_loop().call_later(left, self.carry)
                break
            self._way.popleft()
            if isinstance(piece, bytes):
                self._waiting -= len(piece)
                other.write(piece)
            else:
                piece(other)
        if other and other.lost.is_set():
            self._way.clear()
        if self.lost.is_set() and not (other and self._way):
            self._ends.discard(self)
        self._read_or_not()

    def write(self, data: bytes) -> None:
        """Send it something."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def abort(self) -> None:
        """Close it at once, with what it has not been sent yet."""
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = transport
        self._ends.add(self)
        self._read_or_not()

    def data_received(self, data: bytes) -> None:
        """Carry what it says."""
        if self._other and not self._way and self._condition() == CLEAN and not self._other.is_full:
            self._other.write(data)
        else:
            self._waiting += len(data)
            self._put(data)

    def eof_received(self) -> bool:
        """Carry that it says no more; return whether it may still be told something."""
        self._has_ended = True
        self._put(End._end_writing)
        return bool(self._transport.can_write_eof())  # With TLS there is no half of a connection.

    def connection_lost(self, error: Exception | None) -> None:
        """Carry that it is closed."""
        self.lost.set()
        self._put(End.abort if error else End._close)
        if self._other:
            self._other.carry()

    def pause_writing(self) -> None:
        """Let the other end wait."""
        self.is_full = True
        if self._other:
            self._other.carry()

    def resume_writing(self) -> None:
        """Let the other end go on."""
        self.is_full = False
        if self._other:
            self._other.carry()

    def _put(self, piece: bytes | Callable[[End], None]) -> None:
        self._way.append((time.monotonic(), piece))
        self.carry()

    def _end_writing(self) -> None:
        if self._has_ended or not self._transport.can_write_eof():
            self._close()
        elif not self._transport.is_closing():
            self._transport.write_eof()

    def _close(self) -> None:
        self._transport.close()

    def _read_or_not(self) -> None:
        wanted = not (self._condition().cut or self._waiting >= MOST_WAITING or (self._other and self._other.is_full))
        if wanted != self._is_read and self._transport and not self._has_ended and not self._transport.is_closing():
            self._is_read = wanted
            (self._transport.resume_reading if wanted else self._transport.pause_reading)()
