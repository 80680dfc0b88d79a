"""What is wrong with the links between the workers and the servers that they need: made, looked at and put right."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from itertools import islice

from airflow_celery_lab.cluster import journal, link_status
from airflow_celery_lab.cluster.lifecycle import Lifecycle
from airflow_celery_lab.cluster.readiness import OnWait, quietly
from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import links, procfile
from airflow_celery_lab.configuration.links import Condition, Links
from airflow_celery_lab.configuration.services import LINKS
from airflow_celery_lab.errors import NotReadyError, StateFolderError
from airflow_celery_lab.servers import probes
from airflow_celery_lab.wait import wait_until

#: Where links listen: below the ports that a system gives to outgoing connections, on Linux from 32768, as one of those would keep a link's
#: from it for as long as it lives; and above those of labs in tests.
PORTS = range(25_000, 32_768)
#: Seconds in which the process that carries the links takes in how they are, on a machine that is busy.
SHORTLY = 20.0
#: States of supervisord in which it does not start a process again by itself.
GIVEN_UP = {"STOPPED", "FATAL"}


class Linked(Lifecycle):
    """A lab whose workers may reach their servers through links that can be slow or cut."""

    def links(self) -> Links:
        """Return what is written down of the links."""
        return links.read(self.lab.state)

    def carry_links(self, on_wait: OnWait = quietly) -> None:
        """Start the process that carries links, all of them clean; workers go through them from their next start on.

        Raises:
            LabError: the lab does not run in the background, or the process does not start.

        """
        self.require_background()
        with self.changing(on_wait):
            found = self.links()
            if not found.ports:
                found = found._replace(ports=_free_ports(self.settings.client_host))
                self._write(found)
            processes = self.supervisor.processes
            if links.PROCESS not in processes:
                command = f"{procfile.prefix_of(processes)} exec {LINKS}"
                journal.note(self.lab.state, "added", [links.PROCESS])
                self.supervisor.apply({**processes, links.PROCESS: command})
            elif self.supervisor.states().get(links.PROCESS) in GIVEN_UP:
                self.supervisor.launch([links.PROCESS])
            self._wait_until_held(on_wait)
            self._write(found._replace(on=True))

    def astray(self) -> list[str]:
        """Return the workers that do not go through links while others do, or still go through them while no other does."""
        return link_status.astray(self.records, self.links())

    def renew(self, names: Sequence[str], on_wait: OnWait = quietly) -> None:
        """Let workers end warm and start again, and wait until they are ready; Ctrl-C meanwhile leaves none of them stopped.

        Raises:
            NotReadyError: they do not end or start in time.

        """
        before = {name: record.pid for name, record in self.records.items() if name in names}
        if not before:
            return
        journal.note(self.lab.state, "restart", before)
        self.supervisor.renew(before)

        def probe() -> str | None:
            now = self.records
            late = [name for name, pid in before.items() if name not in now or now[name].pid == pid]
            return f"{', '.join(late)} may still run tasks" if late else None

        wait_until(probe, self.settings.stop_timeout + self.settings.start_timeout, "the end of workers", on_wait=on_wait)
        self.wait_for(list(before), on_wait)

    def set_links(self, servers: Collection[str], condition: Condition, on_wait: OnWait = quietly) -> None:
        """Give the links to `servers` a condition, and wait until they have it.

        Raises:
            NotReadyError: the process that carries them does not take it in.

        """
        with self.changing(on_wait):
            self._write(self.links().having(servers, condition))
            what = "cut" if condition.cut else "slow" if condition.delay else "heal"
            journal.note(self.lab.state, what, [f"link to {server}" for server in servers])
        if self.links().ports:
            self._wait_until_held(on_wait)

    def spoil_links(self, servers: Collection[str], condition: Condition, on_wait: OnWait = quietly) -> None:
        """Give the links to `servers` a condition; workers that go through none yet end warm and start again for that.

        Raises:
            LabError: there is no such link, the lab does not run in the background, or a worker did not become ready.

        """
        links.require_servers(servers)
        self.carry_links(on_wait)
        self.renew(self.astray(), on_wait)
        self.set_links(servers, condition, on_wait)

    def drop_links(self, on_wait: OnWait = quietly) -> None:
        """Make all links clean, let workers start again without them, and end the process that carries them.

        Whenever that is interrupted, no worker is left without its servers; calling it again goes on.

        Raises:
            NotReadyError: workers do not end or start in time.

        """
        with self.changing(on_wait):
            self._write(self.links()._replace(on=False, conditions={}))
        self.renew(self.astray(), on_wait)
        with self.changing(on_wait):
            processes = {name: command for name, command in self.supervisor.processes.items() if name != links.PROCESS}
            if processes != self.supervisor.processes:
                journal.note(self.lab.state, "removed", [links.PROCESS])
                self.supervisor.apply(processes, on_wait=on_wait)
            links.forget(self.lab.state)

    def _write(self, found: Links) -> None:
        try:
            links.write(self.lab.state, found)
        except OSError as error:
            path = self.lab.state.links
            raise StateFolderError(f"cannot write {path}: {error.strerror}; nothing has changed.", path=path) from error

    def _wait_until_held(self, on_wait: OnWait) -> None:
        path = self.lab.state.process_log(links.PROCESS)

        def probe() -> str | None:
            if self.supervisor.states().get(links.PROCESS, "STOPPED") in GIVEN_UP:
                raise NotReadyError(
                    f"{links.PROCESS} does not run, and workers that go through it reach no server: `{typed()} start {links.PROCESS}`, or "
                    f"`{typed()} heal --off`; its log is {path}.",
                    path=path,
                    process=links.PROCESS,
                )
            return None if link_status.is_held(self.lab.state, self.records) else "it has not taken in how the links are"

        wait_until(probe, SHORTLY, links.PROCESS, advice=f"see its log, {path}", interval=0.02, on_wait=on_wait)


def _free_ports(host: str) -> dict[str, int]:
    """Return a port for the link to each server, at which nobody listens."""
    candidates = random.sample(PORTS, len(PORTS))
    free = list(islice((port for port in candidates if not probes.port_taken(host, port)), len(links.SERVERS)))
    if len(free) < len(links.SERVERS):
        raise NotReadyError(f"no port from {PORTS[0]} to {PORTS[-1]} is free for the links; stop some servers.")
    return dict(zip(links.SERVERS, free, strict=True))
