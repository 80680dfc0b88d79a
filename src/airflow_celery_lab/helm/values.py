"""The values file: parts, each with a comment that says what it is and what to do about it. Data from data."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from airflow_celery_lab.configuration.environment import LEAST_PARALLELISM
from airflow_celery_lab.helm.crews import Crew
from airflow_celery_lab.helm.settings import Carried

#: The version of the chart whose `values.schema.json` and templates this follows.
CHART = "1.22.0"
#: Letters in a line of a comment.
WIDTH = 110


class Project(NamedTuple):
    """What is exported."""

    me: str  #: the lab's command, as it was typed
    airflow: str  #: the release
    crews: Sequence[Crew]
    kinds: Mapping[str, int]  #: how many lines of each kind there are: scheduler, triggerer and the others
    own: Sequence[str]  #: names of lines that are processes of the user's own
    settings: Carried
    files: Sequence[str]  #: of the project, that have to reach the image or Airflow in another way


class Part(NamedTuple):
    """A piece of the file."""

    comment: Sequence[str]  #: paragraphs
    values: Mapping[str, Any] | None = None


def text(project: Project) -> str:
    """Return the whole file."""
    import yaml  # Airflow brings it; most commands write none.

    pieces = []
    for part in parts(project):
        lines = [line for paragraph in part.comment for line in _comment(paragraph)]
        if part.values:
            lines.append(yaml.safe_dump(dict(part.values), sort_keys=False, allow_unicode=True, width=10_000).rstrip("\n"))
        pieces.append("\n".join(lines))
    return "\n\n".join(pieces) + "\n"


def parts(project: Project) -> list[Part]:
    """Return the parts, in the order of the file."""
    return [
        _head(project),
        Part(
            [
                f"The image apache/airflow:{project.airflow} has no DAGs and no packages of yours: build one on it, and name it in images.airflow."
            ],
            {"airflowVersion": project.airflow, "defaultAirflowTag": project.airflow},
        ),
        Part(
            ["The lab's executor stands in for it on the laptop, and knows the processes there. It does not go along."],
            {"executor": "CeleryExecutor"},
        ),
        *_workers(project.crews),
        *_components(project),
        _servers(),
        _config(project),
        *_left_out(project),
    ]


def _head(project: Project) -> Part:
    return Part(
        [
            f"Values for the official Helm chart of Apache Airflow, version {CHART}. Written by `{project.me} export helm` from the Procfile.",
            "helm repo add apache-airflow https://airflow.apache.org",
            f"helm upgrade --install airflow apache-airflow/airflow --version {CHART} -n airflow --create-namespace -f values.yaml",
            "It holds no secrets, no DAGs and no resources: what is missing is named below. The lab's docs/scaling-out.md says what changes.",
        ]
    )


def _workers(crews: Sequence[Crew]) -> list[Part]:
    if not crews:
        return [Part(["The Procfile has no worker."], {"workers": {"celery": {"enableDefault": False, "sets": []}}})]
    comments = [
        (
            "Each entry is a set of pods. Lines of the Procfile that are alike are one set, and their number is `replicas`. The slots of a worker are "
            "its concurrency. Pods without `resources` take what the node has: a slot that runs a small task takes 65 MB, a worker 160 MB beside its slots."
        ),
    ]
    for crew in crews:
        comments += [f"{crew.name}: {', '.join(crew.lines)}." + (f" Not carried over: {', '.join(crew.dropped)}." if crew.dropped else "")]
    if any(crew.grows for crew in crews):
        comments.append(
            "keda needs KEDA in the cluster. Its query counts queued and running tasks of the set's queues, as the lab's autoscaler does."
        )
    return [Part(comments, {"workers": {"celery": {"enableDefault": False, "sets": [_set(crew) for crew in crews]}}})]


def _set(crew: Crew) -> dict[str, Any]:
    variables = {"AIRFLOW__CELERY__WORKER_CONCURRENCY": str(crew.slots)}
    if crew.pool:
        variables["AIRFLOW__CELERY__WORKER_AUTOSCALE"] = crew.pool
    made: dict[str, Any] = {
        "name": crew.name,
        "queue": ",".join(crew.queues),
        "replicas": crew.most if not crew.grows else crew.least,
        "env": [{"name": name, "value": value} for name, value in variables.items()],
    }
    if crew.grows:
        made["keda"] = {"enabled": True, "minReplicaCount": crew.least, "maxReplicaCount": crew.most, "query": _query(crew)}
    return made


def _query(crew: Crew) -> str:
    """Return KEDA's question: how many workers have slots for all tasks of these queues. The chart's own counts the same slots for each set."""
    queues = ", ".join(f"'{queue}'" for queue in crew.queues)
    # No statement of ours: KEDA asks it, and a queue's name is of letters, digits, `_`, `.` and `-`.
    return f"SELECT ceil(COUNT(*)::decimal / {crew.slots}) FROM task_instance WHERE state IN ('running', 'queued') AND queue IN ({queues})"  # noqa: S608  # as above


def _components(project: Project) -> list[Part]:
    kinds = project.kinds

    def count(kind: str) -> int:
        return kinds.get(kind, 0)

    values: dict[str, Any] = {
        "apiServer": {"replicas": count("api-server")},
        "scheduler": {"replicas": count("scheduler")},
        "dagProcessor": {"enabled": bool(count("dag-processor")), "replicas": count("dag-processor")},
        "triggerer": {"enabled": bool(count("triggerer")), "replicas": count("triggerer")},
        "flower": {"enabled": bool(count("flower"))},
    }
    comment = ["As many as the Procfile has lines for. Flower asks for no password here until you give it one: flower.secretName."]
    if project.own:
        comment.append(f"These lines have no place in the chart; deploy them yourself: {', '.join(project.own)}.")
    return [Part(comment, values)]


def _servers() -> Part:
    return Part(
        [
            (
                "The chart's own Postgres is for trying it out; for production set postgresql.enabled: false and data.metadataSecretName. Redis keeps the "
                "queues on a volume."
            )
        ],
        {"postgresql": {"enabled": True}, "redis": {"enabled": True}},
    )


def _config(project: Project) -> Part:
    config = {section: dict(keys) for section, keys in project.settings.config.items()}
    # With fewer than slots, slots would stay empty; it counts for each scheduler.
    slots = sum(crew.slots * crew.most for crew in project.crews)
    config.setdefault("core", {}).setdefault("parallelism", str(max(LEAST_PARALLELISM, slots)))
    return Part(
        ["Where the lab, or your .env, differs from Airflow's defaults, and the same makes sense in Kubernetes."], {"config": config}
    )


def _left_out(project: Project) -> list[Part]:
    settings = project.settings
    found = [
        Part(
            [
                "What the lab sets and Kubernetes should not have:",
                *(f"[{section}] {key}: {why}." for (section, key), why in settings.left_out.items()),
            ]
        ),
        Part(
            [
                (
                    "Secrets are not written here. Where none are given, the chart makes random ones; keep your own in Secrets: fernetKeySecretName, apiSecretKeySecretName, "
                    "jwtSecretName, data.metadataSecretName."
                ),
                "Logs of tasks lie on the volumes of their workers, and are shown while those run: set config.logging.remote_logging and remote_base_log_folder.",
            ]
        ),
    ]
    if settings.named:
        found.append(
            Part(
                [
                    (
                        "Of .env these are named alone, as they may be secrets: put AIRFLOW__SECTION__KEY below config, other variables below env, "
                        "and secrets below secret:"
                    ),
                    *settings.named,
                ]
            )
        )
    if project.files:
        found.append(Part(["Of the project these have to reach Airflow in another way:", *project.files]))
    return found


def _comment(paragraph: str) -> list[str]:
    if paragraph.startswith("helm "):  # To be copied in one piece.
        return [f"#   {paragraph}"]
    return textwrap.wrap(paragraph, WIDTH, initial_indent="# ", subsequent_indent="#   ", break_long_words=False, break_on_hyphens=False)
