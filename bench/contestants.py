"""What is measured: the lab, a Procfile written by hand, and `airflow standalone`. Each in a folder and on ports of its own."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
import psutil
from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.configuration import settings
from airflow_celery_lab.configuration.credentials import ADMIN
from airflow_celery_lab.configuration.environment import wiring
from airflow_celery_lab.configuration.settings import BASE_PORTS
from airflow_celery_lab.servers import executables
from airflow_celery_lab.testing.ports import free_offset
from airflow_celery_lab.testing.throwaway import ThrowawayLab
from airflow_celery_lab.wait import wait_until

HERE = Path(__file__).resolve().parent
DAGS = HERE / "dags"
#: The DAGs of that folder.
DAG_IDS = frozenset(path.stem for path in DAGS.glob("*.py"))
#: Seconds for one step of a contestant; what takes longer hangs.
LIMIT = 180.0
COMPONENTS = ("metadatabase", "scheduler", "triggerer", "dag_processor")


class Contestant(ABC):
    """One way to run Airflow. Can be started and stopped many times; what it made is gone after `remove`."""

    name: str

    def __init__(self) -> None:
        self.api: httpx.Client
        self.celery: Celery | None = None
        self.flower: str | None = None
        self.workers = 0

    @abstractmethod
    def start(self) -> None:
        """Start everything that is not there yet; return when all processes are on their way."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it as Ctrl-C does, and return when nothing is left."""

    @abstractmethod
    def remove(self) -> None:
        """End what runs, and delete all files."""

    @abstractmethod
    def roots(self) -> list[int]:
        """Return the pids from which all its processes descend."""

    def processes(self) -> list[psutil.Process]:
        """Return all its living processes."""
        found = []
        for pid in self.roots():
            with suppress(psutil.NoSuchProcess):
                root = psutil.Process(pid)
                found += [root, *root.children(recursive=True)]
        return found

    def unready(self) -> str | None:
        """Return what is missing before a user can run a DAG and watch it in Flower, the same for every contestant.

        The first question to the tasks' API takes seconds, in which nothing else is answered: until then no task begins.
        """
        try:
            self.api.get("/execution/health")
            health = self.api.get("/api/v2/monitor/health").json()
            sick = [name for name in COMPONENTS if health.get(name, {}).get("status") != "healthy"]
            if sick:
                return f"{', '.join(sick)}: not healthy"
            if "Authorization" not in self.api.headers:
                self._log_in()
            missing = DAG_IDS - {dag["dag_id"] for dag in self.api.get("/api/v2/dags").json()["dags"]}
            if missing:
                return f"DAGs are missing: {', '.join(sorted(missing))}"
            if self.flower is not None:
                httpx.get(self.flower, trust_env=False)
        except (httpx.HTTPError, ValueError) as error:
            return f"no answer: {error}"
        return self._silent_workers()

    def _silent_workers(self) -> str | None:
        if self.celery is None:
            return None
        try:
            answers = self.celery.control.ping(timeout=1.0, limit=self.workers)
        except (OperationalError, RedisError) as error:  # The latter of a connection that was open before the last stop.
            return f"no answer: {error}"
        return None if len(answers) >= self.workers else f"{len(answers)} of {self.workers} workers answer"

    def _log_in(self) -> None:
        answer = self._ask_for_a_token()
        answer.raise_for_status()
        self.api.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def _ask_for_a_token(self) -> httpx.Response:
        """Log in; where everybody is an admin, nobody is asked for a password."""
        return self.api.get("/auth/token")


class Lab(Contestant):
    """The lab of this checkout, with its own Procfile."""

    name = "lab"

    def __init__(self, variables: Mapping[str, str] | None = None) -> None:
        """Make a lab that differs from the shipped one by these variables."""
        super().__init__()
        self.lab = ThrowawayLab(DAGS, variables)
        own = self.cluster.settings
        self.api = httpx.Client(base_url=own.url("webserver"), timeout=30, trust_env=False)
        self.flower = own.url("flower")
        self.workers = 2

    @property
    def cluster(self) -> Cluster:
        """The lab's own handle."""
        return self.lab.cluster

    def start(self) -> None:
        """Start it in the foreground, as the Procfile by hand."""
        self.lab.up(wait=False)
        if self.celery is None:
            # Its secrets are made by the first command.
            wait_until(lambda: None if self.cluster.records else "no process yet", LIMIT, "the lab", interval=0.05)
            self.celery = Celery(broker=wiring(self.cluster.lab)["AIRFLOW__CELERY__BROKER_URL"])

    def stop(self) -> None:
        """Press Ctrl-C."""
        self.lab.stop()

    def remove(self) -> None:
        """End what runs, and delete all files."""
        self.api.close()
        self.lab.destroy()

    def roots(self) -> list[int]:
        """Return honcho's pid."""
        return [self.lab.process.pid] if self.lab.process else []

    def _ask_for_a_token(self) -> httpx.Response:
        return self.api.post("/auth/token", json={"username": ADMIN, "password": self.cluster.lab.credentials.admin_password})


class _OfAirflowAlone(Contestant):
    """What is common to the contestants without the lab."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="bench-"))
        self.folder.chmod(0o755)
        self.ports = {name: port + offset for offset in [free_offset()] for name, port in BASE_PORTS.items()}
        port = self.ports["webserver"]
        ambient = {name: value for name, value in os.environ.items() if not name.startswith(("LAB_", "AIRFLOW", "HONCHO_"))}
        self.environ = {
            **ambient,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "AIRFLOW_HOME": str(self.folder / "home"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
            "AIRFLOW__CORE__FERNET_KEY": "",
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(32),
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(self.ports["postgres"] + 1),
            "AIRFLOW__TRIGGERER__DEFAULT_CAPACITY": "1000",
        }
        self.environ["AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT"] = str(self.ports["postgres"] + 2)
        self.api = httpx.Client(base_url=self.environ["AIRFLOW__API__BASE_URL"], timeout=30, trust_env=False)
        self.main: subprocess.Popen[bytes] | None = None

    def roots(self) -> list[int]:
        """Return the pid of what was started."""
        return [self.main.pid] if self.main else []

    def stop(self) -> None:
        """Press Ctrl-C."""
        assert self.main is not None
        everything = self.processes()
        os.killpg(self.main.pid, signal.SIGINT)
        self.main.wait(LIMIT)
        _, left = psutil.wait_procs([process for process in everything if process.pid != self.main.pid], timeout=30)
        for process in left:  # honcho gives up after five seconds, and leaves what has a session of its own.
            process.kill()
        self.main = None
        self.api.headers.pop("Authorization", None)

    def remove(self) -> None:
        """End what runs, and delete all files."""
        self.api.close()
        everything = self.processes()
        for process in everything:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(everything, timeout=30)
        shutil.rmtree(self.folder)

    def _spawn(self, *command: str | Path, user: str | None = None) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user,
            )

    def _do(self, *command: str | Path, user: str | None = None) -> None:
        if self._spawn(*command, user=user).wait(LIMIT):
            words = (self.folder / "log").read_text(errors="replace").splitlines()[-5:]
            raise RuntimeError(f"{self.name}: {command[0]} failed: {' | '.join(words)}")


class Standalone(_OfAirflowAlone):
    """`airflow standalone`: SQLite, and a LocalExecutor."""

    name = "standalone"

    def start(self) -> None:
        """Start it; it makes its database by itself."""
        self.main = self._spawn("airflow", "standalone")


class ByHand(_OfAirflowAlone):
    """The Procfile beside this file, with Airflow's defaults, and Postgres and Redis as their packages configure them."""

    name = "by hand"

    def __init__(self) -> None:
        super().__init__()
        shutil.copy(HERE / "by_hand/Procfile", self.folder)
        database = f"127.0.0.1:{self.ports['postgres']}/airflow"
        broker = f"redis://127.0.0.1:{self.ports['redis']}/0"
        self.environ |= {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://airflow@{database}",
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+postgresql+psycopg2://airflow@{database}",
            "AIRFLOW__CELERY__BROKER_URL": broker,
            "AIRFLOW__CELERY__FLOWER_HOST": "127.0.0.1",
            "AIRFLOW__CELERY__FLOWER_PORT": str(self.ports["flower"]),
        }
        self.celery = Celery(broker=broker)
        self.flower = f"http://127.0.0.1:{self.ports['flower']}"
        self.workers = 2
        self.servers = self._start_servers()

    def start(self) -> None:
        """Migrate the database, as one must before the first start, and start the Procfile."""
        if not (self.folder / "migrated").exists():
            self._do("airflow", "db", "migrate")
            (self.folder / "migrated").touch()
        self.main = self._spawn("honcho", "start")

    def remove(self) -> None:
        """End the servers too."""
        if self.celery:
            self.celery.close()
        super().remove()

    def roots(self) -> list[int]:
        """Return honcho's pid, and those of the servers."""
        return [*super().roots(), *(server.pid for server in self.servers)]

    def stop(self) -> None:
        """Press Ctrl-C; the servers go on, as a machine's own do."""
        servers, self.servers = self.servers, []
        super().stop()
        self.servers = servers

    def _start_servers(self) -> list[subprocess.Popen[bytes]]:
        own = settings.load(os.environ)
        programs = executables.postgres_bin(own)
        user = next((name for name in ("postgres", "nobody") if _exists(name)), None) if os.geteuid() == 0 else None
        data = self.folder / "postgres"
        data.mkdir(mode=0o700)
        if user:
            shutil.chown(data, user)
        self._do(programs / "initdb", "-D", data, "-U", "airflow", "-A", "trust", user=user)
        port = str(self.ports["postgres"])
        postgres = self._spawn(programs / "postgres", "-D", data, "-p", port, "-h", "127.0.0.1", "-k", "", user=user)
        redis = self._spawn(executables.redis_program(own), "--port", str(self.ports["redis"]), "--bind", "127.0.0.1", "--dir", self.folder)
        wait_until(lambda: self._make_database(port), LIMIT, "Postgres", interval=0.05)
        return [postgres, redis]

    @staticmethod
    def _make_database(port: str) -> str | None:
        import psycopg2

        try:
            connection = psycopg2.connect(f"postgresql://airflow@127.0.0.1:{port}/postgres")
        except psycopg2.OperationalError as error:
            return str(error)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE airflow")
        connection.close()
        return None


def _exists(user: str) -> bool:
    with suppress(KeyError):
        return bool(pwd.getpwnam(user))
    return False


CONTESTANTS: Mapping[str, type[Contestant]] = {one.name: one for one in (Lab, ByHand, Standalone)}


def find(text: str) -> Callable[[], Contestant] | None:
    """Return what makes the contestant of that name, None for none; `lab+NAME=VALUE` is a lab with that variable, for a comparison."""
    name, *variables = text.split("+")
    if variables and name == Lab.name and all("=" in variable for variable in variables):
        return partial(Lab, dict(variable.split("=", 1) for variable in variables))
    return CONTESTANTS.get(text)
