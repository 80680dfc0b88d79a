"""What a machine that joins asks: the certificate of the lab's authority, and what workers need. A token guards it, and no login."""

from __future__ import annotations

import json
import logging
import os
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from airflow_celery_lab.cluster import journal
from airflow_celery_lab.configuration import exposure, settings
from airflow_celery_lab.configuration import lab as labs
from airflow_celery_lab.errors import LabError
from airflow_celery_lab.remote import admission
from airflow_celery_lab.remote.authority import Authority
from airflow_celery_lab.web import messages

#: Bytes of a request; what is longer is not read.
LONGEST = 16_384
NOT_FOUND = 404


def router() -> APIRouter:
    """Return the two routes."""
    unguarded = APIRouter()
    unguarded.add_api_route("/ca", _authority)
    unguarded.add_api_route("/join", _join, methods=["POST"])
    return unguarded


def _authority() -> Response:
    config = settings.load(os.environ)
    if exposure.read(config.state) is None:
        return PlainTextResponse("this lab is not exposed", NOT_FOUND)
    return PlainTextResponse(Authority(config.state).certificate(), media_type="application/x-pem-file")


async def _join(request: Request) -> Response:
    body = await messages.body(request, LONGEST)
    if body is None:
        return messages.sentence("this is too long for a machine that joins.", messages.TOO_LONG)
    return await run_in_threadpool(_admit, body)


def _admit(body: bytes) -> Response:
    try:
        machine = admission.read(_json(body))
        lab = labs.load(os.environ, writing=False)
        answer = admission.admit(lab, machine, os.environ)
    except admission.RefusedError as refusal:
        return messages.sentence(str(refusal), messages.FORBIDDEN)
    except (LabError, OSError) as error:
        logging.getLogger(__name__).warning("A machine could not join: %s", error)
        return messages.sentence("the main machine cannot answer now; the log of its api-server says why.", messages.UNAVAILABLE)
    journal.note(lab.state, "join", [machine.name])
    return JSONResponse(answer, headers=messages.UNCACHED)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None
