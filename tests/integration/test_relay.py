from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import ipaddress
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psycopg2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from airflow_celery_lab.configuration.links import CLEAN, Condition
from airflow_celery_lab.errors import PortTakenError
from airflow_celery_lab.remote.connection import MOST_WAITING
from airflow_celery_lab.remote.relay import SSL_REQUEST, Address, Relay
from airflow_celery_lab.servers import probes

from .sandbox import Sandbox, until

pytestmark = pytest.mark.integration

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
ANYWHERE = Address("127.0.0.1", 0)
#: Seconds for what must happen, and for what must not.
SOON, QUIET = 20.0, 0.3


@asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[Address]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(handle, "127.0.0.1", 0)
    yield Address(*listening.sockets[0].getsockname())
    listening.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


@asynccontextmanager
async def connected(relay: Relay, tls: ssl.SSLContext | None = None) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection(*relay.listen, ssl=tls)
    yield reader, writer
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def until_true(probe: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not probe():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def ask(streams: Streams, data: bytes) -> bytes:
    streams[1].write(data)
    return await asyncio.wait_for(streams[0].readexactly(len(data)), SOON)


async def is_silent(streams: Streams) -> bool:
    try:
        await asyncio.wait_for(streams[0].read(1), QUIET)
    except asyncio.TimeoutError:
        return True
    return False


def test_bytes_get_across_unchanged_both_ways_at_once_and_a_half_close_with_them() -> None:
    data = os.urandom(8_000_000)

    async def digest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        got = await reader.read()  # Until the client says no more; it still listens.
        writer.write(hashlib.sha256(got).digest())
        await writer.drain()

    async def scenario() -> bytes:
        async with server(digest) as address, Relay(ANYWHERE, address) as relay, connected(relay) as (reader, writer):
            writer.write(data)
            writer.write_eof()
            return await asyncio.wait_for(reader.read(), SOON)

    assert asyncio.run(scenario()) == data + hashlib.sha256(data).digest()


def test_a_slow_link_delays_each_way_and_carries_many_pieces_at_a_time() -> None:
    async def scenario() -> tuple[float, float]:
        async with server(echo) as address, Relay(ANYWHERE, address) as relay:
            relay.condition = Condition(delay=0.2)
            begin = time.monotonic()
            async with connected(relay) as streams:
                await ask(streams, b"x")
                first = time.monotonic() - begin
                begin = time.monotonic()
                for _ in range(20):  # One after the other they would take 8 s.
                    streams[1].write(b"y" * 1000)
                    await asyncio.sleep(0.01)
                await asyncio.wait_for(streams[0].readexactly(20_000), SOON)
                return first, time.monotonic() - begin

    first, many = asyncio.run(scenario())
    assert first >= 0.8, "connecting takes a way there and back, and so do question and answer"
    assert 0.4 <= many < 4


def test_nothing_gets_across_a_cut_link_nobody_is_told_and_all_of_it_arrives_when_it_is_healed() -> None:
    async def scenario() -> None:
        async with server(echo) as address, Relay(ANYWHERE, address) as relay, connected(relay) as old:
            assert await ask(old, b"before") == b"before"
            relay.condition = Condition(cut=True)
            old[1].write(b"into the cut")
            async with connected(relay) as new:
                new[1].write(b"also new")
                assert await is_silent(old)
                assert await is_silent(new)
                relay.condition = CLEAN
                assert await asyncio.wait_for(old[0].readexactly(12), SOON) == b"into the cut"
                assert await asyncio.wait_for(new[0].readexactly(8), SOON) == b"also new"

    asyncio.run(scenario())


def test_an_end_that_is_closed_during_a_cut_is_known_to_the_other_when_it_is_healed_and_not_before() -> None:
    async def scenario() -> None:
        closed = asyncio.Event()

        async def until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await echo(reader, writer)
            closed.set()

        async with server(until_closed) as address, Relay(ANYWHERE, address) as relay, connected(relay) as streams:
            await ask(streams, b"x")
            relay.condition = Condition(cut=True)
            streams[1].close()
            await asyncio.sleep(QUIET)
            assert not closed.is_set()
            relay.condition = CLEAN
            await asyncio.wait_for(closed.wait(), SOON)
            await until_true(lambda: not relay.connections)

    asyncio.run(scenario())


def test_healing_a_slow_link_brings_what_is_on_its_way_at_once() -> None:
    async def scenario() -> None:
        async with server(echo) as address, Relay(ANYWHERE, address) as relay, connected(relay) as streams:
            await ask(streams, b"x")
            relay.condition = Condition(delay=600)
            streams[1].write(b"y")
            assert await is_silent(streams)
            relay.condition = CLEAN
            assert await asyncio.wait_for(streams[0].readexactly(1), SOON) == b"y"

    asyncio.run(scenario())


@pytest.mark.parametrize("condition", [CLEAN, Condition(delay=600)])
def test_a_sender_waits_for_a_receiver_that_does_not_read_and_for_a_link_that_is_slow(condition: Condition) -> None:
    async def deaf(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async def scenario() -> int:
        async with server(deaf) as address, Relay(ANYWHERE, address) as relay:
            client = socket.create_connection(relay.listen)
            client.settimeout(0)
            sent, quiet = 0, 0
            await until_true(lambda: relay.connections > 0)
            relay.condition = condition
            while quiet < 20:
                try:
                    sent += client.send(b"x" * 65536)
                    quiet = 0
                except BlockingIOError:
                    quiet += 1
                await asyncio.sleep(0.01)
            client.close()
            return sent

    # The kernel has its own buffers on each of the four sides.
    assert asyncio.run(scenario()) < MOST_WAITING + 30_000_000


def test_no_connection_outlives_its_relay_and_none_is_made_to_a_server_that_is_away() -> None:
    async def scenario() -> None:
        async with server(echo) as address:
            relay = Relay(ANYWHERE, address)
            relay.start()
            async with connected(relay) as (reader, writer):
                await ask((reader, writer), b"x")
                relay.condition = Condition(cut=True)
                await relay.close()
                assert await asyncio.wait_for(reader.read(), SOON) == b""
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*relay.listen)
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            async with Relay(ANYWHERE, Address(*nobody.getsockname())) as relay, connected(relay) as (reader, _):
                assert await asyncio.wait_for(reader.read(), SOON) == b""
                with pytest.raises(PortTakenError, match=f"nothing can listen on {relay.listen}: address already in use"):
                    Relay(relay.listen, address).start()

    asyncio.run(scenario())


def certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lab")])
    now = dt.datetime.now(dt.timezone.utc)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "lab.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


def server_context(pem: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    return context


def test_with_tls_a_client_is_served_and_one_that_speaks_plain_text_is_not(tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    data = os.urandom(2_000_000)

    async def scenario() -> None:
        async with server(echo) as address, Relay(ANYWHERE, address, tls=server_context(pem)) as relay:
            async with connected(relay, ssl.create_default_context(cafile=str(pem))) as streams:
                relay.condition = Condition(delay=0.05)
                assert await ask(streams, data) == data
            async with connected(relay) as (reader, writer):
                writer.write(b"PING\r\n")
                assert b"PING" not in await asyncio.wait_for(reader.read(), SOON)

    asyncio.run(scenario())


def test_postgres_clients_get_across_with_verified_tls_only(sandbox: Sandbox, tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    sandbox.start("postgres", "postgres")
    until(lambda: probes.postgres(sandbox.lab) is None, "Postgres")
    address = probes.address(sandbox.lab)
    target = Address(address["host"], address["port"])

    async def scenario() -> None:
        async with Relay(ANYWHERE, target, tls=server_context(pem), pgsql=True) as relay:

            def select(**options: str) -> object:
                with psycopg2.connect(**(address | {"port": relay.listen.port} | options)) as connection:
                    cursor = connection.cursor()
                    cursor.execute("SELECT 1")
                    return cursor.fetchone()

            assert await asyncio.to_thread(select, sslmode="verify-full", sslrootcert=str(pem)) == (1,)
            with pytest.raises(psycopg2.OperationalError, match="this address speaks TLS only; connect with sslmode=verify-full"):
                await asyncio.to_thread(select, sslmode="disable")
            # What comes with the request in plain text is not taken for what is said in TLS.
            async with connected(relay) as (reader, writer):
                writer.write(SSL_REQUEST + b"\0\0\0\x08\x04\xd2\x16\x2e")
                assert (await asyncio.wait_for(reader.read(), SOON))[:1] == b"S"

    asyncio.run(scenario())
