"""The lab's Postgres: made once, as a user that is allowed to, and the program to run."""

from __future__ import annotations

import ctypes
import hashlib
import os
import pwd
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from airflow_celery_lab.configuration import demand, environment, exposure, files, roots
from airflow_celery_lab.configuration.credentials import Credentials, make_private_folder
from airflow_celery_lab.configuration.demand import Demand
from airflow_celery_lab.configuration.environment import DATABASE
from airflow_celery_lab.configuration.exposure import WORKER
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.errors import MissingProgramError, StateFolderError
from airflow_celery_lab.servers import executables

#: `unshare(2)`: a user namespace of its own, in which root appears as another user.
CLONE_NEWUSER = 0x10000000
NOBODY = 65534
#: `max_connections`, at least. It cannot change while Postgres runs, and this is enough to scale to 180 slots; a hundred
#: cost 3.5 MB.
CONNECTIONS = 500
#: What lets workers of other machines log in, given how their password is verified, or ends that, given NULL. It runs as
#: Postgres's superuser, whom nobody can log in as, and is the one thing of his that the lab's role can use.
WORKER_LOGIN = "lab.worker_login"
#: A line is a statement to Postgres without a server around it (`postgres --single`).
WORKER_ROLE = f"""\
DO $$ BEGIN CREATE ROLE {WORKER} NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
CREATE SCHEMA IF NOT EXISTS lab;
CREATE OR REPLACE FUNCTION {WORKER_LOGIN}(verifier text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$ \
BEGIN IF verifier IS NOT NULL THEN EXECUTE format('ALTER ROLE {WORKER} LOGIN PASSWORD %L', verifier); RETURN; END IF; \
ALTER ROLE {WORKER} NOLOGIN PASSWORD NULL; PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{WORKER}'; END $$;
REVOKE ALL ON FUNCTION {WORKER_LOGIN}(text) FROM PUBLIC;
GRANT USAGE ON SCHEMA lab TO {DATABASE};
GRANT EXECUTE ON FUNCTION {WORKER_LOGIN}(text) TO {DATABASE};
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT CREATE, USAGE ON SCHEMA public TO {DATABASE};
REVOKE EXECUTE ON FUNCTION lo_create(oid), lo_creat(integer), lo_from_bytea(oid, bytea) FROM PUBLIC;
REVOKE TEMPORARY ON DATABASE {DATABASE} FROM PUBLIC;
"""
#: Beyond what the processes ask for: for commands, for what a user starts beside them, and for Postgres's own superuser.
SPARE = 50


def prepare(lab: Lab) -> list[str]:
    """Make the database cluster where there is none, and return the server's command.

    Run as root, this process stops being root for good: Postgres refuses to run as root.

    Raises:
        LabError: there is no server program, or the state folder cannot be used.

    """
    folder, data = lab.state.postgres, lab.state.postgres_data
    # Asked of files that are for root alone, where root runs the lab.
    most = connections(demand.wanted(lab.settings, os.environ, environment.sizes(lab, os.environ)))
    exposed = exposure.read(lab.state) is not None
    programs = executables.postgres_bin(lab.settings, major(data))
    make_private_folder(folder)
    _disown(data)
    if os.geteuid() == 0:
        _stop_being_root(folder, programs)
    if not data.exists():
        # An interrupted set-up leaves a draft, which is thrown away.
        draft = lab.state.postgres_draft
        shutil.rmtree(draft, ignore_errors=True)
        _make(draft, programs, lab.credentials)
        draft.rename(data)
    _make_worker_role(data, programs, lab.state.postgres_worker_role, exposed=exposed)
    return [
        str(programs / "postgres"),
        "-D",
        str(data),
        "-c",
        f"config_file={roots.DATA / 'config' / 'postgresql.conf'}",
        "-c",
        f"hba_file={roots.DATA / 'config' / 'pg_hba.conf'}",
        "-c",
        f"listen_addresses={lab.settings.bind}",
        "-c",
        f"port={lab.settings.ports.postgres}",
        "-c",
        f"max_connections={most}",
    ]


def major(data: Path) -> int | None:
    """Return the version of Postgres that has made a data folder, None where there is none."""
    with suppress(OSError, ValueError):
        return int((data / "PG_VERSION").read_text())
    return None


def connections(wanted: Demand) -> int:
    """Return the `max_connections` of a Postgres for what is `wanted`."""
    return max(CONNECTIONS, wanted.connections + SPARE)


def _disown(data: Path) -> None:
    """Let a killed Postgres count as dead, also when another process has its pid by now.

    In a container that is stopped and started pids start from 1 again, and now and then Postgres takes
    the new owner of its old pid for itself. Given the pid of this process, which becomes Postgres, it does not, and
    it still looks for processes of its own that may have outlived it.
    """
    lock = data / "postmaster.pid"
    if not lock.exists():
        return
    import psutil

    with suppress(OSError, ValueError, psutil.Error):
        pid, newline, rest = lock.read_text().partition("\n")
        owner = psutil.Process(int(pid))
        # In a container without an init a killed Postgres stays a zombie, which would count as alive too.
        if owner.status() == psutil.STATUS_ZOMBIE or str(data) not in owner.cmdline():
            lock.write_text(f"{os.getpid()}{newline}{rest}")


def _make(data: Path, programs: Path, credentials: Credentials) -> None:
    print("lab: making the database", flush=True)
    # Who may log in stands in config/pg_hba.conf: the role below, which owns its database and nothing else.
    # Whether this first, empty state reaches the disk at once is of no importance (--no-sync).
    _run([programs / "initdb", "-D", data, "-U", "postgres", "-E", "UTF8", "--locale=C", "-A", "reject", "--no-sync"])
    _run(
        [programs / "postgres", "--single", "-D", data, "postgres"],
        f"CREATE ROLE {DATABASE} LOGIN PASSWORD '{credentials.postgres_password}';\nCREATE DATABASE {DATABASE} OWNER {DATABASE};\n",
    )


def _make_worker_role(data: Path, programs: Path, note: Path, *, exposed: bool) -> None:
    """Make the role of workers of other machines; once, also where an older lab made the database.

    Where the lab is not `exposed` it cannot log in: who takes that back while Postgres is away removes the note.
    """
    print_of_it = hashlib.sha256(WORKER_ROLE.encode()).hexdigest()
    with suppress(OSError):  # It is wanted by `expose` alone, which says what is missing.
        if note.exists() and note.read_text() == print_of_it:
            return
        command = [str(programs / "postgres"), "--single", "-D", str(data), DATABASE]
        sql = WORKER_ROLE if exposed else f"{WORKER_ROLE}ALTER ROLE {WORKER} NOLOGIN PASSWORD NULL;\n"
        done = subprocess.run(command, input=sql, capture_output=True, text=True, check=False)
        if done.returncode == 0 and "ERROR" not in done.stderr:
            files.write(note, print_of_it)


def _run(command: list[str | Path], text: str | None = None) -> None:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["no reason given"]
        raise StateFolderError(
            f"{Path(command[0]).name} could not make the database: {words[-1]}; fix that, or set LAB_HOME to another folder."
        )


def _stop_being_root(folder: Path, programs: Path) -> None:
    """Become another user: a real one where it can reach all it needs, else one by name only."""
    user = _unprivileged()
    if _can_use(user, [programs / "postgres", folder.parent.parent, roots.DATA / "config"]):
        folder.parent.chmod(0o711)  # Lets the user pass through; what lies there stays closed.
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, user.pw_uid, user.pw_gid)
        _become(user)
    elif not _hide_root():
        raise MissingProgramError(
            f"Postgres refuses to run as root, and the user {user.pw_name!r} cannot reach {folder} and {programs}; "
            "run the lab as another user, or from a folder that all users may enter, such as one below /srv."
        )


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise MissingProgramError("Postgres refuses to run as root, and this machine has no user `nobody`; run the lab as another user.")


def _can_use(user: pwd.struct_passwd, paths: list[Path]) -> bool:
    """Return whether `user` may run or enter each of `paths`."""
    pid = os.fork()
    if pid == 0:
        _become(user)
        os._exit(0 if all(os.access(path, os.X_OK) for path in paths) else 1)
    return os.waitpid(pid, 0)[1] == 0


def _become(user: pwd.struct_passwd) -> None:
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)


def _hide_root() -> bool:
    """Enter a user namespace in which root is called nobody. Container runtimes may forbid it."""
    if sys.platform != "linux" or ctypes.CDLL(None).unshare(CLONE_NEWUSER) != 0:
        return False
    try:
        Path("/proc/self/uid_map").write_text(f"{NOBODY} 0 1")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/gid_map").write_text(f"{NOBODY} 0 1")
    except OSError:
        return False
    return True
