"""Where machines that have joined send the logs of their tasks. Who may take messages from Redis may send them, and no login guards it."""

from __future__ import annotations

import hmac
import os
from base64 import b64decode
from contextlib import suppress
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response

from airflow_celery_lab.configuration import exposure, settings
from airflow_celery_lab.configuration.exposure import WORKER
from airflow_celery_lab.configuration.settings import Settings
from airflow_celery_lab.remote import sent_logs
from airflow_celery_lab.web import messages

#: Bytes in one request, as the sender has it.
LONGEST = sent_logs.PART
DONE, MISUNDERSTOOD = 204, 400


def router() -> APIRouter:
    """Return the one route."""
    unguarded = APIRouter()
    unguarded.add_api_route("/logs/{name:path}", _take, methods=["PUT"])
    return unguarded


async def _take(name: str, request: Request) -> Response:
    config = settings.load(os.environ)
    if not _may_send(config, request.headers.get("Authorization", "")):
        return messages.sentence("the user and the password are not those of a machine that has joined.", messages.FORBIDDEN)
    begin = request.headers.get(sent_logs.BEGIN, "")
    log, note = sent_logs.place(_folder(config), name), sent_logs.place(config.state.received_logs, name)
    if log is None or note is None or not begin.isdecimal():
        return messages.sentence("this is no part of a task's log.", MISUNDERSTOOD)
    part = await messages.body(request, LONGEST)
    if part is None:
        return messages.sentence("this is too long for a part of a log.", messages.TOO_LONG)
    try:
        received = await run_in_threadpool(sent_logs.take, log, note, int(begin), part)
    except (OSError, ValueError) as error:
        return messages.sentence(f"the log cannot be written: {error}.", messages.UNAVAILABLE)
    if received is not None:
        return JSONResponse({"detail": "something is missing before that."}, sent_logs.TOO_FAR, headers={sent_logs.RECEIVED: str(received)})
    return Response(status_code=DONE)


def _may_send(config: Settings, authorization: str) -> bool:
    exposed = exposure.read(config.state)
    with suppress(ValueError):
        user, _, password = b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        return exposed is not None and user == WORKER and hmac.compare_digest(password.encode(), exposed.redis_password.encode())
    return False


def _folder(config: Settings) -> Path:
    """Return where this api-server reads its tasks' logs: the user may have another folder."""
    return Path(os.environ.get(sent_logs.LOG_FOLDER) or config.state.task_logs)
