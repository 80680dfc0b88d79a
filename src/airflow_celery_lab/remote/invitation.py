"""The secret of a token, as the main machine knows it: by its hash, and until its end. Data and rules."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from typing import NamedTuple

from airflow_celery_lab.remote.token import SECRET


class Invitation(NamedTuple):
    """What lets machines join, as many as come before its end. 32 random bytes are not guessed, so nobody counts tries."""

    digest: str  #: SHA-256 of the secret, in hexadecimal
    until: float  #: seconds since the epoch

    def refusal(self, secret: bytes, now: float) -> str | None:
        """Return why a secret does not let its owner join `now`, None when it does."""
        if not hmac.compare_digest(hashlib.sha256(secret).digest(), bytes.fromhex(self.digest)):
            return "this token is not valid: a newer one has taken its place, or it is another lab's; run `expose` on the main machine for a new one."
        if now > self.until:
            ended = time.strftime("%H:%M:%S UTC on %Y-%m-%d", time.gmtime(self.until))
            return f"this token was valid until {ended}; run `expose` on the main machine for a new one."
        return None


def invite(seconds: float, now: float) -> tuple[bytes, Invitation]:
    """Return a new secret, and what is kept of it."""
    secret = secrets.token_bytes(SECRET)
    return secret, Invitation(hashlib.sha256(secret).hexdigest(), now + seconds)
