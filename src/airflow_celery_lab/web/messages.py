"""What the routes for other machines have in common: a body of limited length, and a refusal in one sentence."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import JSONResponse

FORBIDDEN, TOO_LONG, UNAVAILABLE = 403, 413, 503
#: What is answered may hold passwords.
UNCACHED = {"Cache-Control": "no-store"}


async def body(request: Request, longest: int) -> bytes | None:
    """Return what was sent; None when it is more than `longest` bytes, and the rest is not read."""
    found = b""
    async for part in request.stream():
        found += part
        if len(found) > longest:
            return None
    return found


def sentence(text: str, status: int) -> JSONResponse:
    """Return an answer that says what is wrong."""
    return JSONResponse({"detail": text}, status, headers=UNCACHED)
