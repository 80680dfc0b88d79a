"""Every name in the state folder. What a running lab writes, it writes here."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class State(NamedTuple):
    """The state folder of one lab (LAB_HOME)."""

    home: Path

    @property
    def secrets(self) -> Path:
        """The passwords and keys, mode 0600."""
        return self.home / "secrets.json"

    @property
    def passwords(self) -> Path:
        """The users' passwords, for Airflow, mode 0600."""
        return self.home / "airflow-passwords.json"

    @property
    def exposure(self) -> Path:
        """On which address the lab listens for other machines, and their passwords, mode 0600; none when it is not exposed."""
        return self.home / "exposure.json"

    @property
    def tls(self) -> Path:
        """The lab's certificate authority, and the certificate of the exposed address; keys have mode 0600."""
        return self.home / "tls"

    @property
    def authority(self) -> Path:
        """The certificate of the lab's authority."""
        return self.tls / "ca.pem"

    @property
    def airflow(self) -> Path:
        """AIRFLOW_HOME."""
        return self.home / "airflow"

    @property
    def dag_bundles(self) -> Path:
        """What bundles of DAGs have fetched, such as repositories."""
        return self.airflow / "bundles"

    @property
    def task_logs(self) -> Path:
        """What tasks have printed, in Airflow's own folders."""
        return self.home / "logs"

    @property
    def dag_processor_logs(self) -> Path:
        """What the dag-processor says of each DAG file."""
        return self.task_logs / "dag_processor"

    @property
    def shared_ids(self) -> Path:
        """Which DAGs the dag-processor has found in more than one file."""
        return self.airflow / "shared-ids.json"

    @property
    def dag_listing(self) -> Path:
        """What the dag-processor makes of the files in the DAG folder."""
        return self.airflow / "dag-files.json"

    @property
    def debug_session(self) -> Path:
        """Which tasks run on the debugger's worker."""
        return self.airflow / "debug-session.json"

    @property
    def debug_task(self) -> Path:
        """Which of them waits for an editor."""
        return self.airflow / "debug-task"

    @property
    def flower(self) -> Path:
        """Flower's own folder."""
        return self.home / "flower"

    @property
    def flower_history(self) -> Path:
        """The tasks that Flower has seen."""
        return self.flower / "history"

    @property
    def postgres(self) -> Path:
        """Postgres's own folder."""
        return self.home / "postgres"

    @property
    def postgres_data(self) -> Path:
        """The database cluster."""
        return self.postgres / "data"

    @property
    def postgres_draft(self) -> Path:
        """The database cluster while it is made; an interrupted set-up leaves it."""
        return self.postgres / "data.new"

    @property
    def postgres_worker_role(self) -> Path:
        """What was done to the database cluster so that it has a role for workers of other machines."""
        return self.postgres / "worker-role"

    @property
    def redis(self) -> Path:
        """The queue on disk."""
        return self.home / "redis"

    @property
    def redis_configuration(self) -> Path:
        """The configuration with the password, mode 0600."""
        return self.redis / "redis.conf"

    @property
    def redis_program(self) -> Path:
        """Which server made the queue."""
        return self.redis / "server"

    @property
    def schema(self) -> Path:
        """Which Airflow migrated the database, and to which revision."""
        return self.home / "schema.json"

    @property
    def schema_lock(self) -> Path:
        """Held by the process that migrates."""
        return self.home / "schema.lock"

    @property
    def applied_settings(self) -> Path:
        """Which connections, variables and pools of the project's file are in the database, without their values."""
        return self.home / "airflow-settings.json"

    @property
    def processes(self) -> Path:
        """A record, a lock, and after an unasked end its status, for each process."""
        return self.home / "run"

    def record(self, process: str) -> Path:
        """Return the file in which a running process says who it is."""
        return self.processes / f"{process}.json"

    def lock(self, process: str) -> Path:
        """Return the file that a process holds a lock on while it lives."""
        return self.processes / f"{process}.lock"

    def end(self, process: str) -> Path:
        """Return the file with the exit status of a process that has ended unasked."""
        return self.processes / f"{process}.end"

    def temporary(self, process: str) -> Path:
        """Return the folder for what a process would leave in the system's temporary folder."""
        return self.home / "tmp" / process

    @property
    def stopping(self) -> Path:
        """There while the foreground lab stops: a process that starts and finds it has come too late."""
        return self.processes / "stopping"

    @property
    def foreground_lock(self) -> Path:
        """Held by `up` in the foreground."""
        return self.home / "up.lock"

    @property
    def procfile(self) -> Path:
        """The Procfile as honcho runs it."""
        return self.home / "Procfile"

    @property
    def supervisord_configuration(self) -> Path:
        """What supervisord was last told to run. `config/supervisord/supervisord.conf` names the four below, too."""
        return self.home / "supervisord.conf"

    @property
    def supervisord_pid(self) -> Path:
        """The pid of supervisord."""
        return self.home / "supervisord.pid"

    @property
    def supervisord_log(self) -> Path:
        """What supervisord says."""
        return self.home / "supervisord.log"

    @property
    def supervisord_socket(self) -> Path:
        """Where supervisord listens, if the path is short enough for a socket."""
        return self.home / "supervisor.sock"

    @property
    def forkserver(self) -> Path:
        """Where the forkserver listens."""
        return self.home / "forkserver.sock"

    @property
    def membership(self) -> Path:
        """What this folder has of the lab that it has joined, mode 0600."""
        return self.home / "membership.json"

    @property
    def main_authority(self) -> Path:
        """The certificate authority of that lab."""
        return self.home / "main-ca.pem"

    @property
    def received_logs(self) -> Path:
        """How many bytes of each task's log have come from a machine that has joined."""
        return self.home / "received-logs"

    @property
    def demand(self) -> Path:
        """What the processes ask of servers and machine that the lab was last told to run."""
        return self.home / "demand.json"

    def autoscaled(self, line: str) -> Path:
        """Return the file in which the autoscaler of a line of the Procfile says what it does."""
        return self.autoscaling / f"{line}.json"

    @property
    def autoscaling(self) -> Path:
        """What autoscalers do; beside each file is a lock that the autoscaler holds while it lives."""
        return self.home / "autoscale"

    @property
    def change_lock(self) -> Path:
        """Locked while a command or an autoscaler changes which processes the background lab runs."""
        return self.home / "change.lock"

    @property
    def links(self) -> Path:
        """How the links between workers and servers are, and where they are carried."""
        return self.home / "links.json"

    @property
    def links_held(self) -> Path:
        """The same, as the process that carries them has taken it in; there while it runs."""
        return self.home / "links-held.json"

    @property
    def journal(self) -> Path:
        """What was done to the lab by its commands, a line each."""
        return self.home / "journal.jsonl"

    @property
    def timelines(self) -> Path:
        """Pages that `timeline` has written."""
        return self.home / "timelines"

    @property
    def experiments(self) -> Path:
        """A folder for each experiment that was run, with its data and its page."""
        return self.home / "experiments"

    @property
    def experiment_lock(self) -> Path:
        """Held while experiments run, or the tour."""
        return self.home / "experiment.lock"

    @property
    def experiment_dags(self) -> Path:
        """The DAGs of the experiment that runs, or of the tour."""
        return self.home / "experiment-dags"

    @property
    def tour(self) -> Path:
        """How far the user has come in the tour."""
        return self.home / "tour.json"

    @property
    def process_logs(self) -> Path:
        """What the processes of the background lab print."""
        return self.home / "processes"

    def process_log(self, process: str) -> Path:
        """Return the file with what a process of the background lab prints."""
        return self.process_logs / f"{process}.log"

    def ledger(self, run_id: str) -> Path:
        """Return the file in which the tasks of a run of the DAG `ledger` write down what they do."""
        return self.home / "ledger" / f"{run_id}.jsonl"

    @property
    def debugging(self) -> Path:
        """The databases of DAGs that run in one process, one for each Airflow."""
        return self.home / "debug"
