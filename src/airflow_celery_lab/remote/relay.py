"""A relay carries the bytes of one link, as late as the link is slow, and not at all while it is cut.

While a link is cut the relay accepts nobody, reads nothing, writes nothing and closes nothing: what hangs on it hangs, as with
a cable that was pulled. The one difference: the kernel acknowledges what a client sends into the cut, so TCP's own keepalive
notices nothing; who waits for an answer does.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from airflow_celery_lab.configuration.links import CLEAN, Condition
from airflow_celery_lab.errors import PortTakenError
from airflow_celery_lab.remote.connection import End

if TYPE_CHECKING:
    from typing_extensions import Self  # The standard library has it from Python 3.11 on.

#: Seconds that a client has to say what it wants, before it has proven anything.
HANDSHAKE = 20.0
#: Seconds until the next try when no connection can be accepted: all file descriptors are in use.
PAUSE = 1.0
#: Seconds of silence before TCP asks whether the other end is there, between its questions, and how many it asks.
KEEPALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))

#: libpq's first words when it wants another protocol than plain text (PostgreSQL, "Message Formats").
SSL_REQUEST, GSS_REQUEST = (struct.pack("!ii", 8, code) for code in (80877103, 80877104))
#: What it hears when it goes on in plain text: severity, SQLSTATE and sentence of an ErrorResponse.
PLAIN_TEXT = b"SFATAL\0VFATAL\0C28000\0Mthis address speaks TLS only; connect with sslmode=verify-full\0\0"


class Address(NamedTuple):
    """Where one listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Relay:
    """The relay of one link; `async with` starts and ends it. No connection outlives it."""

    def __init__(self, listen: Address, target: Address, *, tls: ssl.SSLContext | None = None, pgsql: bool = False) -> None:
        """Relay what comes to `listen` to `target`, in plain text there.

        With `tls` clients must speak TLS; with `pgsql` as well, they ask for it in libpq's way first.
        """
        self.listen = listen  #: with the port that it has got, once started, where 0 was asked for
        self.target = target
        self._tls = tls
        self._pgsql = pgsql and tls is not None
        self._condition = CLEAN
        self._changed = asyncio.Event()
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._greeting: set[asyncio.Task[None]] = set()
        self._ends: set[End] = set()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def condition(self) -> Condition:
        """How the link is; a new condition holds at once, also for what is on its way."""
        return self._condition

    @condition.setter
    def condition(self, condition: Condition) -> None:
        self._condition = condition
        self._changed.set()
        self._changed = asyncio.Event()
        for end in list(self._ends):
            end.carry()

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._ends) // 2

    def start(self) -> None:
        """Listen.

        Raises:
            PortTakenError: nobody can, at that address.

        """
        family = socket.AF_INET6 if ":" in self.listen.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(self.listen)
            listener.listen(128)
        except OSError as error:
            listener.close()
            reason = (error.strerror or str(error)).lower()
            raise PortTakenError(f"nothing can listen on {self.listen}: {reason}.", port=self.listen.port) from error
        listener.setblocking(False)  # noqa: FBT003  # the socket module's own signature
        self._listener = listener
        self.listen = Address(*listener.getsockname()[:2])
        self._accepting = asyncio.create_task(self._accept(listener))

    async def close(self) -> None:
        """Stop listening, and end every connection."""
        tasks = [task for task in (self._accepting, *self._greeting) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listener:
            self._listener.close()
        for end in list(self._ends):
            end.abort()
        await asyncio.gather(*(end.lost.wait() for end in self._ends))
        self._ends.clear()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while self._condition.cut:
                await self._changed.wait()
            try:
                client, _ = await loop.sock_accept(listener)
            except OSError:
                await asyncio.sleep(PAUSE)
                continue
            greeting = asyncio.create_task(self._greet(client))
            self._greeting.add(greeting)
            greeting.add_done_callback(self._greeting.discard)

    async def _greet(self, client: socket.socket) -> None:
        """Join a client with the target."""
        loop = asyncio.get_running_loop()
        near, far = End(lambda: self._condition, self._ends), End(lambda: self._condition, self._ends)
        try:
            if await self._admit(client):
                timeout = HANDSHAKE if self._tls else None
                await loop.connect_accepted_socket(lambda: near, client, ssl=self._tls, ssl_handshake_timeout=timeout)
                await loop.create_connection(lambda: far, *self.target)
                _keep_alive(far.socket)
                near.join(far)
        except OSError:  # Also what is wrong with a client's TLS: it has been told.
            near.abort()
            far.abort()
        except asyncio.CancelledError:
            near.abort()
            far.abort()
            raise

    async def _admit(self, client: socket.socket) -> bool:
        """Return whether a client may be joined, else it is closed."""
        admitted = False
        try:
            _keep_alive(client)
            client.setblocking(False)  # noqa: FBT003  # the socket module's own signature
            # The kernel has shaken hands at once; across the link that takes as long as a question and its answer.
            await self._across()
            await self._across()
            admitted = not self._pgsql or await asyncio.wait_for(_agree_on_tls(client), HANDSHAKE)
        except (OSError, asyncio.TimeoutError):  # Python 3.10 has two of them.
            pass
        finally:
            if not admitted:
                client.close()
        return admitted

    async def _across(self) -> None:
        """Wait for as long as something takes to get across, whatever becomes of the link meanwhile."""
        begin = time.monotonic()
        while self._condition.cut or (left := begin + self._condition.delay - time.monotonic()) > 0:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), None if self._condition.cut else left)


def _keep_alive(connection: socket.socket) -> None:
    """Let TCP notice that a machine is gone, which would otherwise keep its connections forever."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE:
        if hasattr(socket, name):  # Not all are there on macOS.
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def _agree_on_tls(client: socket.socket) -> bool:
    """Answer a client of Postgres's that it may begin with TLS; return False when it does not ask for that, and is told."""
    loop = asyncio.get_running_loop()
    # Never a byte more than the request: what follows it in plain text must not be taken for what was said in TLS.
    while (request := await _read(client, len(SSL_REQUEST))) == GSS_REQUEST:
        await loop.sock_sendall(client, b"N")
    if request == SSL_REQUEST:
        await loop.sock_sendall(client, b"S")
        return True
    if request:
        await loop.sock_sendall(client, b"E" + struct.pack("!i", len(PLAIN_TEXT) + 4) + PLAIN_TEXT)
    return False


async def _read(client: socket.socket, count: int) -> bytes:
    """Return so many bytes, fewer when the client ends."""
    data = b""
    while len(data) < count and (more := await asyncio.get_running_loop().sock_recv(client, count - len(data))):
        data += more
    return data
