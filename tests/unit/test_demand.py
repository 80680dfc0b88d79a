"""What the processes of a Procfile ask of the servers and of the machine."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_celery_lab.cluster import limits
from airflow_celery_lab.configuration import demand, environment, procfile, settings
from airflow_celery_lab.configuration.credentials import Credentials
from airflow_celery_lab.configuration.demand import Demand, Sizes
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.configuration.roots import DATA as CHECKOUT
from airflow_celery_lab.servers import postgres
from airflow_celery_lab.supervision import honcho

SECRETS = Credentials("fernet", "jwt", "api", "pg-secret", "redis-secret", "cookie", "admin-secret")
#: Two hundred slots in forty workers, all of one line.
FORTY = "scheduler: airflow-celery-lab exec airflow scheduler\n" + "".join(
    f"worker-{number}: airflow-celery-lab exec airflow celery worker --concurrency 5\n" for number in range(40)
)


def of(text: str, sizes: Sizes | None = None) -> Demand:
    return demand.of((line.service for line in procfile.parse(text)), sizes or Sizes())


def lab(project: Path, lines: str = FORTY, text: str = "") -> Lab:
    (project / "Procfile").write_text(lines)
    (project / ".env").write_text(text)
    return Lab(settings.load({}, project), SECRETS)


def parallelism(own: Lab, **environ: str) -> str:
    return environment.of_process(own, "scheduler", environ)["AIRFLOW__CORE__PARALLELISM"]


def test_the_procfile_that_comes_with_the_lab_asks_for_what_every_start_gives() -> None:
    wanted = of((CHECKOUT / "Procfile").read_text())

    assert (wanted.workers, wanted.slots) == (2, 10)
    assert postgres.connections(wanted) == postgres.CONNECTIONS
    assert 1000 < wanted.memory_at_rest < 1300 < wanted.memory < 1900
    assert wanted._replace(apart=True).memory == wanted.memory + 270


def test_a_slot_may_open_two_connections_a_worker_one_and_others_a_whole_pool() -> None:
    base = of("scheduler: lab exec airflow scheduler\nwebserver: lab exec airflow api-server\nredis: lab exec redis\n")
    wanted = of(FORTY)

    assert base.connections == 15 + 2 * 15
    assert (wanted.workers, wanted.slots, wanted.connections) == (40, 200, 15 + 2 * 200 + 40)
    assert postgres.connections(wanted._replace(connections=900)) > 900


@pytest.mark.parametrize(
    ("variables", "sizes"),
    [
        ({}, Sizes(4, solo=False, pool=15)),
        ({"AIRFLOW__CELERY__WORKER_CONCURRENCY": "16"}, Sizes(16)),
        ({"AIRFLOW__CELERY__WORKER_CONCURRENCY": "16", "AIRFLOW__CELERY__WORKER_AUTOSCALE": "8,2"}, Sizes(8)),
        ({"AIRFLOW__CELERY__WORKER_CONCURRENCY": "many"}, Sizes(4)),
        ({"AIRFLOW__CELERY__POOL": "solo"}, Sizes(4, solo=True)),
        ({"AIRFLOW__DATABASE__SQL_ALCHEMY_POOL_SIZE": "50", "AIRFLOW__DATABASE__SQL_ALCHEMY_MAX_OVERFLOW": "0"}, Sizes(pool=50)),
    ],
)
def test_keys_of_the_users_count(variables: dict[str, str], sizes: Sizes) -> None:
    assert demand.sizes(variables) == sizes


def test_a_worker_that_names_no_concurrency_has_that_of_the_key_and_a_solo_one_a_single_slot() -> None:
    line = "worker: lab exec airflow celery worker\nother: lab exec airflow celery worker -c 3\n"

    assert of(line, Sizes(16)).slots == 19
    assert of(line, Sizes(16, solo=True)).slots == 2


def test_the_scheduler_runs_as_many_tasks_at_a_time_as_there_are_slots(tmp_path: Path) -> None:
    assert parallelism(lab(tmp_path)) == "200"
    assert parallelism(lab(tmp_path, "worker: airflow-celery-lab exec airflow celery worker\n")) == "32"
    assert parallelism(lab(tmp_path, FORTY.replace(" --concurrency 5", ""), "AIRFLOW__CELERY__WORKER_CONCURRENCY=10\n")) == "400"


def test_what_the_lab_was_told_to_run_counts_before_its_procfile(tmp_path: Path) -> None:
    own = lab(tmp_path)
    own.state.home.mkdir()

    demand.write(own.state, Demand(workers=1, slots=300, connections=1000))
    assert parallelism(own) == "300"
    demand.forget(own.state)
    assert parallelism(own) == "200"
    for damage in (b"", b"{", b"[]", b"\xff\0", b'{"slots": 1, "unknown": 2}'):
        own.state.demand.write_bytes(damage)
        assert parallelism(own) == "200"


def test_counts_of_the_foreground_are_summed_too(tmp_path: Path) -> None:
    own = lab(
        tmp_path, "worker: airflow-celery-lab exec airflow celery worker -c 20\nother: airflow-celery-lab exec airflow celery worker\n"
    )
    own.state.home.mkdir()

    honcho._write_demand(own, ["-c", "worker=3,other=2"], {})
    assert parallelism(own) == str(3 * 20 + 2 * 4)
    honcho._write_demand(own, [], {})
    assert parallelism(own) == "32"


def test_a_parallelism_of_the_users_counts_however_it_is_set(tmp_path: Path) -> None:
    file = tmp_path / "mine.cfg"
    file.write_text("[core]\nparallelism = 8\n")

    assert parallelism(lab(tmp_path, FORTY, "AIRFLOW__CORE__PARALLELISM=9\n")) == "9"
    assert parallelism(lab(tmp_path), AIRFLOW__CORE__PARALLELISM="7") == "7"
    assert parallelism(lab(tmp_path), AIRFLOW_CONFIG=str(file)) == "8"
    computed = environment.of_process(lab(tmp_path), "scheduler", {"AIRFLOW__CORE__PARALLELISM_CMD": "echo 5"})
    assert "AIRFLOW__CORE__PARALLELISM" not in computed


def test_a_procfile_that_cannot_be_read_keeps_no_command_from_running(tmp_path: Path) -> None:
    assert parallelism(lab(tmp_path, "worker: airflow-celery-lab exec airflow celery worker --concurrency\n")) == "32"


def test_a_machine_with_too_little_memory_is_warned_of_with_the_sum() -> None:
    wanted = Demand(workers=2, slots=60)

    assert limits.shortage(wanted, free=5530) is None
    assert limits.shortage(wanted, free=4000) == (
        "2 workers with 60 slots and the other processes take about 5530 MB when all slots run a task (75 MB each), and 4000 MB are "
        "free; close something, or lower the workers' --concurrency in the Procfile"
    )


def test_what_runs_has_its_memory_already() -> None:
    running, wanted = Demand(workers=2, slots=6), Demand(workers=3, slots=26)

    assert limits.shortage(wanted, 1585, running) is None
    assert "take about 1585 MB more when all slots run" in str(limits.shortage(wanted, 1000, running))


def test_redis_refuses_more_clients_than_the_system_allows_open_files() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert list(limits.of_redis(of(FORTY))) == []

    assert "raise the number of open files" in refusal_with_open_files(256)
    (told,) = limits.of_redis(Demand(workers=2000, slots=2000, clients=20_050))
    assert str(told).startswith("2000 workers with 2000 slots and the other processes may make 20050 clients of Redis, which takes ")
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


def refusal_with_open_files(most: int) -> str:
    """Ask in a process that may open so many, as a limit that was lowered cannot be raised again."""
    script = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({most}, {most}))\n"
        "from airflow_celery_lab.cluster import limits\nfrom airflow_celery_lab.configuration.demand import Demand\n"
        "print(*limits.of_redis(Demand(workers=40, slots=200, clients=450)))"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
