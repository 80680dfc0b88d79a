"""The token with which another machine joins: one line of text. Data and rules."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import struct
import zlib
from typing import NamedTuple

from airflow_celery_lab.errors import TokenError

PREFIX = "lab1."
#: Bytes of a SHA-256, and of a secret that nobody guesses.
DIGEST = SECRET = 32
#: Port, fingerprint and secret, after the address; a checksum, which finds typing errors, follows.
REST = struct.Struct(f">H{DIGEST}s{SECRET}s")
CHECKSUM = struct.Struct(">I")
#: Bytes of an address of each kind.
ADDRESSES = (4, 16)


class Token(NamedTuple):
    """Where a lab waits for other machines, and what proves each to the other."""

    address: str  #: an IP address
    port: int  #: of https
    fingerprint: bytes  #: SHA-256 of the certificate of the lab's authority
    secret: bytes  #: good until its end, which the lab knows

    def __repr__(self) -> str:  # A traceback must not show the secret.
        return f"Token({self.address}, {self.port})"

    @property
    def text(self) -> str:
        """The token in one line."""
        packed = ipaddress.ip_address(self.address).packed + REST.pack(self.port, self.fingerprint, self.secret)
        return PREFIX + base64.urlsafe_b64encode(packed + CHECKSUM.pack(zlib.crc32(packed))).decode().rstrip("=")


def parse(text: str) -> Token:
    """Return the token that `text` is.

    Raises:
        TokenError: it is none, or not a whole one.

    """
    words = text.strip()
    if not words.startswith(PREFIX):
        raise TokenError(f"that is no token: a token begins with `{PREFIX}`, and the main machine's `expose` prints it.")
    try:
        encoded = words.removeprefix(PREFIX)
        data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    packed, checksum = data[: -CHECKSUM.size], data[-CHECKSUM.size :]
    length = len(packed) - REST.size
    if length not in ADDRESSES or CHECKSUM.pack(zlib.crc32(packed)) != checksum:
        raise TokenError("the token is cut or mistyped; copy the whole line that `expose` printed on the main machine.")
    return Token(str(ipaddress.ip_address(packed[:length])), *REST.unpack(packed[length:]))
