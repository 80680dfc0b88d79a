"""What the api-server answers below `/lab`. It asks the lab as the command line does, and only when somebody looks.

Airflow does not guard what plugins mount: each route depends on its check of who may see plugins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import Depends, FastAPI
from fastapi.responses import HTMLResponse, JSONResponse, Response

from airflow_celery_lab.errors import LabError, UnknownDagError, UnknownRunError

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

    guarded = FastAPI(dependencies=[Depends(requires_access_view(AccessView.PLUGINS))], docs_url=None, redoc_url=None, openapi_url=None)
    guarded.add_api_route("/", _page, response_class=HTMLResponse)
    guarded.add_api_route("/live", _Live().answer)
    guarded.add_api_route("/plotly.js", _plotly)
    guarded.add_api_route("/dags/{dag_id}/runs/{run_id:path}", _timeline, response_class=HTMLResponse)
    return guarded


async def _page() -> str:
    from plotly.offline import get_plotlyjs_version

    return Template(PAGE.read_text(encoding="utf-8")).substitute(plotly=await _ask(get_plotlyjs_version))


class _Live:
    """The data of the page. Who asks while a look goes on shares its answer."""

    def __init__(self) -> None:
        self._look: asyncio.Task[dict[str, Any]] | None = None

    async def answer(self) -> JSONResponse:
        """Answer with the data of one look, or with a sentence."""
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(_ask(_look))
        try:
            return JSONResponse(await asyncio.shield(self._look), headers={"Cache-Control": "no-store"})
        except LabError as error:
            return JSONResponse({"detail": str(error)}, UNAVAILABLE)


async def _plotly() -> Response:
    from plotly.offline import get_plotlyjs

    return Response(
        await _ask(get_plotlyjs), media_type="text/javascript", headers={"Cache-Control": f"private, max-age={YEAR}, immutable"}
    )


async def _timeline(dag_id: str, run_id: str) -> HTMLResponse:
    try:
        return HTMLResponse(await _ask(partial(_draw, dag_id, run_id)))
    except LabError as error:
        text = Template(REFUSAL.read_text(encoding="utf-8")).substitute(sentence=escape(str(error)))
        return HTMLResponse(text, STATUSES.get(type(error), UNAVAILABLE))


async def _ask(question: Callable[[], Answer]) -> Answer:
    return await asyncio.get_running_loop().run_in_executor(_asking, question)


@cache
def _cluster() -> Cluster:
    """Return the lab that this api-server belongs to. Once: each Celery app leaves something behind in kombu's pools."""
    from airflow_celery_lab.cluster.handle import Cluster

    return Cluster.open(writing=False)


def _look() -> dict[str, Any]:
    from airflow_celery_lab.web import live

    return live.look(_cluster())


def _draw(dag_id: str, run_id: str) -> str:
    from airflow_celery_lab.timeline import recording
    from airflow_celery_lab.timeline.page import page

    return page(recording.timeline(_cluster(), dag_id, run_id))
