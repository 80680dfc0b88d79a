"""What of a project is exported: its Procfile, its `.env`, and the names of files that have to come along."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version

from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import airflow_settings, demand, procfile, roots, services
from airflow_celery_lab.configuration.settings import Settings
from airflow_celery_lab.helm import crews, settings
from airflow_celery_lab.helm.values import Project

#: Kinds of lines that the chart has a place for, or runs by itself.
CHARTED = frozenset({"postgres", "redis", "worker", "flower", "api-server", "scheduler", "dag-processor", "triggerer"})
DEFAULT_QUEUE = "AIRFLOW__OPERATORS__DEFAULT_QUEUE"


def read(found: Settings, environ: Mapping[str, str]) -> Project:
    """Return what is exported.

    Raises:
        ProcfileError: the Procfile cannot be used.

    """
    # Between pods there is no gateway.
    lines = [line for line in procfile.of(found, environ) if line.service.kind not in (services.FORKSERVER, services.GATEWAY)]
    kinds = Counter(line.service.kind for line in lines)
    variables = found.variables
    lab = settings.read((roots.DATA / "config" / "airflow.cfg").read_text(encoding="utf-8"))
    # Where the Procfile has an autoscaler, its line says how often others run.
    spans = {one.line: (one.least, one.most) for line in lines for one in line.service.ranges}
    own = [line.name for line in lines if line.service.kind not in CHARTED and not line.service.ranges]
    queue = variables.get(DEFAULT_QUEUE, "default")
    carried = settings.carried(lab, variables, flower=bool(kinds["flower"]))
    if queue != "default":
        carried.config["operators"] = {"default_queue": queue}
        carried.named.remove(DEFAULT_QUEUE)
    return Project(
        me=typed(),
        airflow=version("apache-airflow-core"),
        crews=crews.crews(lines, queue, spans, demand.sizes(variables).slots),
        kinds=kinds,
        own=own,
        settings=carried,
        files=_files(found),
    )


def _files(found: Settings) -> list[str]:
    """Return what of the project is in no value, and how it reaches Airflow."""
    ways = {
        found.dags: "the image, or git: dags.gitSync",
        found.project / "plugins": "the image",
        found.project / "requirements.txt": "the image: `pip install -r` with Airflow's constraints",
        found.project
        / airflow_settings.FILE: "a secrets backend, or AIRFLOW_CONN_ and AIRFLOW_VAR_ in Secrets; pools by `airflow pools import`",
    }
    return [f"{path.name}: {way}." for path, way in ways.items() if path.exists()]
