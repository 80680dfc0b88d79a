from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_celery_lab.configuration import procfile
from airflow_celery_lab.configuration import settings as lab_settings
from airflow_celery_lab.configuration.roots import DATA as CHECKOUT
from airflow_celery_lab.helm import crews, of_project, settings, values
from airflow_celery_lab.helm.crews import Crew, Ranges

GOLDEN = Path(__file__).with_name("helm") / "values.yaml"
WORKER = "./lab exec airflow celery worker"


def of(*lines: str, ranges: Ranges | None = None) -> list[Crew]:
    return crews.crews(procfile.parse("\n".join(lines)), "default", ranges or {})


def exported(project: Path, **environ: str) -> tuple[str, Any]:
    text = values.text(of_project.read(lab_settings.load(environ, project), environ))
    return text, yaml.safe_load(text)


def sets(found: Any) -> dict[str, Any]:
    return {one["name"]: one for one in found["workers"]["celery"]["sets"]}


def test_the_values_of_the_default_procfile_are_those_that_were_checked_against_the_charts_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """`check-jsonschema --schemafile values.schema.json tests/unit/helm/values.yaml`, with the chart's own file, is how it was checked."""
    monkeypatch.setenv("LAB_COMMAND", "./lab")
    monkeypatch.setattr(of_project, "version", lambda _name: "3.3.2")

    text, found = exported(CHECKOUT, LAB_DAGS="dags")

    assert text == GOLDEN.read_text(encoding="utf-8")
    assert list(found) == [
        *("airflowVersion", "defaultAirflowTag", "executor", "workers", "apiServer", "scheduler", "dagProcessor", "triggerer"),
        *("flower", "postgresql", "redis", "config"),
    ]
    assert all(isinstance(value, str) for section in found["config"].values() for value in section.values()), (
        "Helm writes a large number as 1e+06"
    )


def test_lines_that_are_alike_are_one_set_and_others_are_not() -> None:
    found = of(
        f"worker-a: {WORKER} -q a -c 4",
        f"worker-b: {WORKER} --queues=a --concurrency 4",
        f"worker-c: {WORKER} -q a -c 8",
        f"Gpu_Box: {WORKER} -q gpu",
    )

    assert [(crew.name, crew.lines, crew.queues, crew.slots, crew.least, crew.most) for crew in found] == [
        ("a", ("worker-a", "worker-b"), ("a",), 4, 2, 2),
        ("c", ("worker-c",), ("a",), 8, 1, 1),
        ("gpu-box", ("Gpu_Box",), ("gpu",), 4, 1, 1),
    ]


@pytest.mark.parametrize(
    ("lines", "names"), [(("a_b", "a-b", "A-B"), ["a-b", "a-b-2", "a-b-3"]), (("worker-", "x" * 60), ["worker", "x" * 30])]
)
def test_names_are_such_as_kubernetes_takes_and_each_is_there_once(lines: Sequence[str], names: list[str]) -> None:
    assert [crew.name for crew in of(*(f"{name}: {WORKER} -c {number}" for number, name in enumerate(lines, 1)))] == names


def test_what_of_a_line_does_not_go_along_is_named_without_its_value() -> None:
    (crew,) = of(f"worker: TOKEN=secret nice -n 5 {WORKER} --without-mingle --queues a --autoscale 8,2 --umask 022")

    assert (crew.slots, crew.pool) == (8, "8,2")
    assert crew.dropped == ("TOKEN", "nice", "-n", "5", "--without-mingle", "--umask", "022")


def test_a_line_that_comes_with_the_load_is_scaled_by_keda_on_its_own_queues() -> None:
    (crew,) = of(f"worker: {WORKER} -q a,b -c 3", ranges={"worker": (0, 6)})

    made = values._set(crew)

    assert (made["queue"], made["replicas"]) == ("a,b", 0)
    assert {key: value for key, value in made["keda"].items() if key != "query"} == {
        "enabled": True,
        "minReplicaCount": 0,
        "maxReplicaCount": 6,
    }
    assert "COUNT(*)::decimal / 3)" in made["keda"]["query"]
    assert "queue IN ('a', 'b')" in made["keda"]["query"]


def test_each_key_of_the_labs_configuration_goes_along_or_has_a_reason_why_not() -> None:
    keys = set(settings.read((CHECKOUT / "config" / "airflow.cfg").read_text(encoding="utf-8")))

    assert keys == settings.KEPT | set(settings.LEFT_OUT)
    assert not settings.KEPT & set(settings.LEFT_OUT)


def test_a_users_numbers_and_switches_go_along_and_what_may_be_a_secret_is_only_named(tmp_path: Path) -> None:
    (tmp_path / "dags").mkdir()
    (tmp_path / "Procfile").write_text("worker: airflow-celery-lab exec airflow celery worker\nmine: sleep 1\n")
    (tmp_path / ".env").write_text(
        "AIRFLOW__CORE__PARALLELISM=64\nAIRFLOW__CELERY__WORKER_CONCURRENCY=7\nAIRFLOW__SMTP__SMTP_PASSWORD=hunter2\nAIRFLOW_CONN_SHOP=http://shop:hunter2@shop\n"
        "AIRFLOW__OPERATORS__DEFAULT_QUEUE=etl\nGREETING=hunter2\n"
    )

    text, found = exported(tmp_path)

    assert found["config"]["core"]["parallelism"] == "64"
    assert found["config"]["operators"] == {"default_queue": "etl"}
    assert (sets(found)["worker"]["queue"], sets(found)["worker"]["env"][0]["value"]) == ("etl", "7")
    assert "hunter2" not in text
    assert all(f"# {name}\n" in text for name in ("AIRFLOW__SMTP__SMTP_PASSWORD", "AIRFLOW_CONN_SHOP", "GREETING"))
    assert "deploy them yourself: mine." in text
    assert found["flower"] == {"enabled": False}
    assert found["triggerer"]["enabled"] is False
    assert "extra_celery_config" not in found["config"]["celery"]


def test_the_scheduler_fills_all_slots_that_there_may_be() -> None:
    found = of(f"worker: {WORKER} -c 10", ranges={"worker": (1, 6)})
    project = values.Project("./lab", "3.3.2", found, {}, [], settings.carried({}, {}, flower=False), [])

    assert yaml.safe_load(values.text(project))["config"] == {"core": {"parallelism": "60"}}
