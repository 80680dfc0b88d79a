"""How Celery keeps its results in Postgres: the scheduler asks over one connection, and a slot closes its own when it is idle."""

from __future__ import annotations

import io
import os
import pickle
import threading
import weakref
from typing import Any

from celery.backends.database import DatabaseBackend, retry
from celery.backends.database.models import Task, TaskSet
from celery.backends.database.session import SessionManager
from sqlalchemy import PickleType, create_engine
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Engine

#: Options of an engine with which a user sizes the pool of connections.
SIZES = frozenset({"pool_size", "max_overflow", "pool_timeout", "pool_use_lifo", "poolclass"})
#: Seconds after its last use for which a connection is kept.
IDLE = 5.0


class PlainData:
    """Pickles results as Celery does, and reads them back as data alone.

    Who may write a result could otherwise have the scheduler, which reads it, run code: also a worker of another machine.
    Celery itself writes nothing else there, as it has no other way to say than JSON what a task returned or raised.
    """

    dumps = staticmethod(pickle.dumps)

    @staticmethod
    def loads(data: bytes) -> Any:
        """Return the data; None when it is anything else, for one bad row must not end the scheduler."""
        try:
            return _PlainUnpickler(io.BytesIO(data)).load()
        except Exception:  # noqa: BLE001  # what is no pickle fails in many ways
            return None


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} is no data")


for model in (Task, TaskSet):
    model.__table__.c.result.type = PickleType(pickler=PlainData)


class Sessions(SessionManager):  # type: ignore[misc]  # Celery has no types
    """Celery's sessions, on an engine that a process makes once.

    What nobody has used for a while is closed, unless `keep_connection` was called or the user sizes the pool: else each slot that has run
    a task would keep one of Postgres's connections, and 4 MB of its memory. A thread does that, which is never there while the process
    forks; and each task is a fork.
    """

    def __init__(self) -> None:
        super().__init__()
        self._keep = False  # The connections are not closed.
        self._closing: threading.Timer | None = None
        self.prepared = True  # The tables are made with the schema.
        _SESSIONS.add(self)

    def get_engine(self, dburi: str, **options: Any) -> Engine:
        """Return the engine for that database, with Celery's `database_engine_options`."""
        if dburi not in self._engines:
            if SIZES.intersection(options):
                self._keep = True
            elif not self._keep:
                # The server may have been started again since.
                options = {"pool_size": 1, "pool_pre_ping": True, **options}
            self._engines[dburi] = create_engine(dburi, **options)
        engine: Engine = self._engines[dburi]
        return engine

    def keep_connection(self, dburi: str) -> None:
        """Keep the connection to that database from now on."""
        self._keep = True
        self._sessions.pop(dburi, None)  # As `invalidate` does, which Celery has since 5.6.3.
        if engine := self._engines.pop(dburi, None):
            engine.dispose()

    def close_when_idle(self) -> None:
        """Close the connections some seconds from now, unless this is called again."""
        self.stop_waiting()
        if not self._keep and self._engines:
            self._closing = threading.Timer(IDLE, self._close)
            self._closing.daemon = True
            self._closing.start()

    def stop_waiting(self) -> bool:
        """End the thread that would close the connections, and return whether there was one."""
        closing, self._closing = self._closing, None
        if closing is None:
            return False
        closing.cancel()
        closing.join()
        return True

    def forget_connections(self) -> None:
        """Leave the connections to the process that this one was forked from."""
        for engine in self._engines.values():
            engine.dispose(close=False)
        self._engines.clear()
        self._sessions.clear()

    def _close(self) -> None:
        for engine in list(self._engines.values()):
            engine.dispose()


#: Those of this process, and those of them that a fork has kept from closing their connections.
_SESSIONS: weakref.WeakSet[Sessions] = weakref.WeakSet()
_WAITING: list[Sessions] = []


def _before_fork() -> None:
    _WAITING[:] = [sessions for sessions in list(_SESSIONS) if sessions.stop_waiting()]


def _after_fork_here() -> None:
    while _WAITING:
        _WAITING.pop().close_when_idle()


def _after_fork_there() -> None:
    _WAITING.clear()
    for sessions in list(_SESSIONS):
        sessions.forget_connections()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_here, after_in_child=_after_fork_there)


class ResultBackend(DatabaseBackend):  # type: ignore[misc]  # as above
    """Celery's own, with our sessions. Celery finds it by its configuration (`override_backends`)."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._sessions = Sessions()  # Celery's constructor asks for a session.
        super().__init__(*arguments, **options)
        self.session_manager = self._sessions

    def ResultSession(self, _: Any = None) -> Any:  # noqa: N802  # Celery's name
        """Return a session. What it uses, `close_when_idle` leaves open."""
        session = super().ResultSession(self._sessions)
        self._sessions.close_when_idle()
        return session

    @retry  # type: ignore[untyped-decorator]  # as above
    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: str | None = None, request: Any = None, **options: Any
    ) -> None:
        """Write a result in one statement, where Celery looks for the row, makes it, changes it, and ends a transaction."""
        engine = self._sessions.get_engine(self.url, **self.engine_options)
        if engine.dialect.name != "postgresql":
            super()._store_result(task_id, result, state, traceback=traceback, request=request, **options)
            return
        meta = self._get_result_meta(result=result, state=state, traceback=traceback, request=request, format_date=False, encode=True)
        table = self.task_cls.__table__
        values = {column.name: meta.get(column.name) for column in table.columns if column.name not in {"id", "task_id"}}
        row = insert(table).values(task_id=task_id, **values).on_conflict_do_update(index_elements=[table.c.task_id], set_=values)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(row)
        self._sessions.close_when_idle()

    def keep_connection(self) -> None:
        """Ask over one connection from now on, as a scheduler does that asks in each of its rounds.

        A new one costs Postgres 5 ms of CPU, and a new engine asks the server who it is: of 100 empty tasks each took
        15 ms more.
        """
        self._sessions.keep_connection(self.url)
