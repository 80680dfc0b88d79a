"""What the api-server answers below `/lab`. It asks the lab as the command line does, and only when somebody looks.

Airflow does not guard what plugins mount: each route depends on its check of who may see plugins, but for those of
`joining`, which a token guards.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import APIRouter, Depends, FastAPI
from fastapi.responses import HTMLResponse, JSONResponse, Response

from airflow_celery_lab.errors import LabError, UnknownDagError, UnknownRunError
from airflow_celery_lab.web import joining

if TYPE_CHECKING:
    from airflow_celery_lab.cluster.handle import Cluster

Answer = TypeVar("Answer")
PAGE = Path(__file__).with_name("page.html")
REFUSAL = Path(__file__).with_name("refusal.html")
#: Statuses of HTTP for errors of the user's; what cannot be asked now may be asked again.
STATUSES: dict[type[LabError], int] = {UnknownDagError: 404, UnknownRunError: 404}
UNAVAILABLE = 503
#: Seconds for which a browser keeps Plotly, whose address has its version.
YEAR = 31_536_000
#: In a thread of its own, one question after the other: each asks this api-server itself, which needs its own threads to answer.
_asking = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lab")


def app() -> FastAPI:
    """Return the app that the api-server mounts.

    Raises:
        ImportError: this Airflow has no check that could guard it.

    """
    from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
    from airflow.api_fastapi.core_api.security import requires_access_view

    guarded = APIRouter(dependencies=[Depends(requires_access_view(AccessView.PLUGINS))])
    answers = _Answers()
    guarded.add_api_route("/", _page, response_class=HTMLResponse)
    guarded.add_api_route("/plotly.js", _plotly)
    guarded.add_api_route("/live", answers.data)
    guarded.add_api_route("/dags/{dag_id}/runs/{run_id:path}", answers.timeline, response_class=HTMLResponse)
    whole = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    whole.include_router(guarded)
    whole.include_router(joining.router())
    return whole


async def _page() -> str:
    from plotly.offline import get_plotlyjs_version

    return Template(PAGE.read_text(encoding="utf-8")).substitute(plotly=await _ask(get_plotlyjs_version))


async def _plotly() -> Response:
    from plotly.offline import get_plotlyjs

    caching = {"Cache-Control": f"private, max-age={YEAR}, immutable"}
    return Response(await _ask(get_plotlyjs), media_type="text/javascript", headers=caching)


class _Answers:
    """What is asked of the lab. Who asks for the page's data while a look goes on shares its answer."""

    def __init__(self) -> None:
        self._lab = _Lab()
        self._look: asyncio.Task[dict[str, Any]] | None = None

    async def data(self) -> JSONResponse:
        """Answer with the data of one look, or with a sentence."""
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(_ask(self._lab.look))
        try:
            return JSONResponse(await asyncio.shield(self._look), headers={"Cache-Control": "no-store"})
        except LabError as error:
            return JSONResponse({"detail": str(error)}, UNAVAILABLE)

    async def timeline(self, dag_id: str, run_id: str) -> HTMLResponse:
        """Answer with the page of a run's timeline, or with a sentence."""
        try:
            return HTMLResponse(await _ask(partial(self._lab.draw, dag_id, run_id)))
        except LabError as error:
            text = Template(REFUSAL.read_text(encoding="utf-8")).substitute(sentence=escape(str(error)))
            return HTMLResponse(text, STATUSES.get(type(error), UNAVAILABLE))


class _Lab:
    """The lab that this api-server belongs to. Only the thread that asks uses it."""

    def __init__(self) -> None:
        self._opened: Cluster | None = None

    def look(self) -> dict[str, Any]:
        """Return the page's data."""
        from airflow_celery_lab.web import live

        return live.look(self._open())

    def draw(self, dag_id: str, run_id: str) -> str:
        """Return the page of a run's timeline."""
        from airflow_celery_lab.timeline import recording
        from airflow_celery_lab.timeline.page import page

        return page(recording.timeline(self._open(), dag_id, run_id))

    def _open(self) -> Cluster:
        """Open it once, as each Celery app leaves something behind in kombu's pools; and anew when `.env` says something else."""
        from airflow_celery_lab.cluster.handle import Cluster
        from airflow_celery_lab.configuration import settings

        if self._opened is None or self._opened.settings != settings.load(os.environ):
            if self._opened is not None:
                self._opened.close()
            self._opened = Cluster.open(writing=False)
        return self._opened


async def _ask(question: Callable[[], Answer]) -> Answer:
    return await asyncio.get_running_loop().run_in_executor(_asking, question)
