from __future__ import annotations

from pathlib import Path

import pytest
from honcho.environ import parse_procfile

from airflow_celery_lab.configuration import procfile, settings
from airflow_celery_lab.configuration.roots import DATA as CHECKOUT
from airflow_celery_lab.errors import ProcfileError


def test_a_line_is_a_name_and_a_command() -> None:
    (line,) = procfile.parse("worker-a:  ./lab exec airflow celery worker --queues a  ")

    assert (line.name, line.command) == ("worker-a", "./lab exec airflow celery worker --queues a")
    assert (line.service.kind, line.service.queues) == ("worker", ("a",))


def test_processes_keep_the_order_of_their_lines() -> None:
    lines = procfile.parse("b: ./lab exec redis\n\na: ./lab exec postgres\n")

    assert [line.name for line in lines] == ["b", "a"]


def test_comments_and_empty_lines_of_the_procfile_mean_nothing() -> None:
    lines = procfile.parse("# first\n\n   # b: ./lab exec redis\na: ./lab exec postgres\n   \n")

    assert [line.name for line in lines] == ["a"]


def test_a_process_without_the_launcher_is_the_users_own() -> None:
    (line,) = procfile.parse("web: python -m http.server")

    assert line.service.kind == "own"
    assert not line.service.needs


def test_the_launcher_is_found_by_any_path_and_after_other_words() -> None:
    (line,) = procfile.parse("queue: nice -n 5 /srv/my-lab/lab exec redis")

    assert line.service.kind == "redis"


@pytest.mark.parametrize(
    "line",
    [
        "scheduler ./lab exec airflow scheduler",
        " scheduler: ./lab exec airflow scheduler",
        "the scheduler: ./lab exec airflow scheduler",
        "schéduler: ./lab exec airflow scheduler",
        ": ./lab exec airflow scheduler",
    ],
)
def test_a_line_that_honcho_would_drop_or_run_as_nothing_is_refused(line: str) -> None:
    with pytest.raises(ProcfileError, match=r"^Procfile line 2 is not `name: command`, with a name of letters"):
        procfile.parse(f"# first\n{line}\n")


@pytest.mark.parametrize("line", ["scheduler:", "scheduler:  ", "scheduler: # later"])
def test_a_line_without_a_command_is_refused_as_such(line: str) -> None:
    with pytest.raises(ProcfileError, match=r"^Procfile line 2 \(scheduler\): there is no command; write one, or remove the line\.$"):
        procfile.parse(f"# first\n{line}\n")


def test_a_comment_after_a_command_means_nothing() -> None:
    (line,) = procfile.parse("w: ./lab exec airflow celery worker -c 3  # as many as cores -c 9")

    assert (line.command, line.service.concurrency) == ("./lab exec airflow celery worker -c 3", 3)


def test_variables_of_dotenv_count_in_a_line() -> None:
    text = "w: NICE=$N nice -n $N ./lab exec airflow celery worker -q ${QUEUES:-default} -c $SLOTS"
    (line,) = procfile.parse(text, {"N": "5", "SLOTS": "7"})

    assert line.command == "NICE=5 nice -n 5 ./lab exec airflow celery worker -q default -c 7"
    assert (line.service.queues, line.service.concurrency) == (("default",), 7)


def test_a_line_with_more_than_the_launcher_is_what_its_last_command_is() -> None:
    (line,) = procfile.parse("w: cd /tmp && A=1 ./lab exec airflow celery worker -q a >log 2>&1")

    assert line.service.queues == ("a",)


@pytest.mark.parametrize("command", ["./lab exec redis && echo over", "./lab exec redis || true", "./lab exec redis; echo over"])
def test_what_would_keep_the_launchers_signals_is_refused(command: str) -> None:
    with pytest.raises(ProcfileError, match=r"^Procfile line 1 \(a\): the launcher must be in the last command of the line; "):
        procfile.parse(f"a: {command}")


def test_a_pipe_is_refused_with_its_line() -> None:
    with pytest.raises(ProcfileError, match=r"^Procfile line 1 \(a\): '\|' would leave processes that nobody can stop; "):
        procfile.parse("a: ./lab exec redis | tee log")


def test_what_the_lab_reads_is_what_honcho_runs() -> None:
    text = (CHECKOUT / "Procfile").read_text(encoding="utf-8")

    assert {line.name: line.command for line in procfile.parse(text)} == dict(parse_procfile(text).processes)


def test_a_name_that_stands_twice_is_refused() -> None:
    with pytest.raises(ProcfileError, match=r"^Procfile line 3 names 'a' a second time; give each process a name of its own\.$"):
        procfile.parse("a: ./lab exec redis\nb: ./lab exec redis\na: ./lab exec redis\n")


def test_an_open_quote_is_refused() -> None:
    with pytest.raises(ProcfileError, match=r"^Procfile line 1 \(a\): a quote is left open in .*; close it\.$"):
        procfile.parse("a: sh -c 'echo")


def test_an_unknown_program_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(ProcfileError, match=r"^Procfile line 1 \(db\): there is no program 'postgre' to run; did you mean 'postgres'\?$"):
        procfile.parse("db: ./lab exec postgre")


def test_a_launcher_without_a_command_is_refused() -> None:
    with pytest.raises(ProcfileError, match=r"^Procfile line 1 \(db\): `\S+ exec` needs a command"):
        procfile.parse("db: ./lab exec")


@pytest.mark.parametrize("text", ["", "\n\n", "# all commented out\n"])
def test_a_procfile_without_processes_is_refused(text: str) -> None:
    with pytest.raises(ProcfileError, match=r"names no process; add one, or remove the file and run `\S+ init` for a new one"):
        procfile.parse(text)


def test_a_project_without_a_procfile_runs_the_default_one_with_the_launcher_that_is_there(tmp_path: Path) -> None:
    own, default = procfile.read(CHECKOUT), procfile.read(tmp_path)

    assert [line.command for line in default] == [line.command.replace("./lab exec", "airflow-celery-lab exec") for line in own]
    assert [line.service for line in default] == [line.service for line in own]


def test_a_line_for_a_checkout_is_refused_in_a_project_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("redis: ./lab exec redis\n")

    with pytest.raises(ProcfileError, match=r"^the line of redis in .* runs `\./lab`, .* write `airflow-celery-lab exec` in its place"):
        procfile.read(tmp_path)

    (tmp_path / "lab").touch()
    assert [line.name for line in procfile.read(tmp_path)] == ["redis"]


def test_a_procfile_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_bytes(b"a: \xff\n")

    with pytest.raises(ProcfileError, match=r"^cannot read .*Procfile: "):
        procfile.read(tmp_path)


def test_the_procfile_that_a_setting_names_counts_and_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("one: true\n")
    (tmp_path / "Procfile.small").write_text("two: true\n")

    lines = procfile.of(settings.load({"LAB_PROCFILE": "Procfile.small"}, tmp_path), {})
    assert [line.name for line in lines] == ["two"]

    with pytest.raises(ProcfileError, match=r"^cannot read .*Procfile\.big: .*; fix the file, or name another one in LAB_PROCFILE\.$"):
        procfile.of(settings.load({"LAB_PROCFILE": "Procfile.big"}, tmp_path), {})


LINES = procfile.parse("redis: ./lab exec redis\nworker: ./lab exec airflow celery worker -q a\n")


def test_an_exposed_lab_has_one_gateway_whatever_its_procfile_names(tmp_path: Path) -> None:
    added = procfile.with_gateway(LINES, tmp_path)
    own = procfile.parse("door: ./lab exec gateway\n")

    assert [(line.name, line.command) for line in added[len(LINES) :]] == [("gateway", "airflow-celery-lab exec gateway")]
    assert procfile.with_gateway(added, tmp_path) == added
    assert procfile.with_gateway(own, tmp_path) == own
    with pytest.raises(ProcfileError, match=r"^door cannot run 2 times: one gateway is enough; leave it at 1, or 0 for none\.$"):
        procfile.instances(own, {"door": 2})
    with pytest.raises(ProcfileError, match=r"^the lab is exposed, and 'gateway' is the name of the process for that; rename that line"):
        procfile.with_gateway(procfile.parse("gateway: true\n"), tmp_path)


def test_each_line_runs_once_unless_told_otherwise() -> None:
    assert list(procfile.instances(LINES)) == ["redis", "worker"]


def test_the_first_of_several_has_the_lines_own_name() -> None:
    services = procfile.services_of(procfile.instances(LINES, {"worker": 3}))

    assert list(services) == ["redis", "worker", "worker-2", "worker-3"]
    assert services["worker-3"] == services["worker"]


def test_a_line_that_runs_no_times_is_not_expected() -> None:
    assert list(procfile.instances(LINES, {"worker": 0})) == ["redis"]


def test_only_lines_of_the_procfile_can_be_scaled() -> None:
    with pytest.raises(ProcfileError, match=r"^there is no process 'workers' to scale; the Procfile has redis, worker\.$"):
        procfile.instances(LINES, {"workers": 2})


def test_two_processes_may_not_end_up_with_one_name() -> None:
    lines = procfile.parse("worker: ./lab exec airflow celery worker\nworker-2: ./lab exec airflow celery worker\n")

    with pytest.raises(ProcfileError, match=r"^two processes would be called 'worker-2'; rename one of the lines in the Procfile\.$"):
        procfile.instances(lines, {"worker": 2})


def test_the_committed_procfile_is_the_whole_cluster() -> None:
    services = procfile.services_of(procfile.instances(procfile.read(CHECKOUT)))

    assert {name: service.kind for name, service in services.items()} == {
        "postgres": "postgres",
        "redis": "redis",
        "forkserver": "forkserver",
        "webserver": "api-server",
        "scheduler": "scheduler",
        "dag-processor": "dag-processor",
        "triggerer": "triggerer",
        "flower": "flower",
        "worker-default": "worker",
        "worker-high-cpu": "worker",
    }
    assert services["worker-default"].queues == ("default",)
    assert services["worker-high-cpu"].queues == ("high_cpu",)
