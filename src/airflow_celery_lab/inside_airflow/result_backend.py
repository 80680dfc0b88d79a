"""How Celery keeps its results in Postgres: the scheduler asks over one connection, and a slot closes its own when it is idle."""

from __future__ import annotations

import io
import os
import pickle
import signal
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from celery.backends.database import DatabaseBackend, retry
from celery.backends.database.models import Task, TaskSet
from celery.backends.database.session import SessionManager
from sqlalchemy import PickleType, Table, create_engine
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Dialect, Engine, make_url

#: Options of an engine with which a user sizes the pool of connections.
SIZES = frozenset({"pool_size", "max_overflow", "pool_timeout", "pool_use_lifo", "poolclass"})
#: Seconds after its last use for which a slot's connection is kept.
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
    """Celery's sessions, and the connection over which a slot writes results.

    Celery makes an engine for each session. Who asks often keeps one (`keep_connection`), and so does who writes. When nobody has written for
    a while, that connection is closed, unless the user sizes the pool: else each slot that has run a task would keep one of Postgres's
    connections, and 4 MB of its memory.
    """

    def __init__(self) -> None:
        super().__init__()
        self._keep = False  # Sessions share a connection.
        self._writer: Engine | None = None
        self._sized = False  # The user says how many connections that has.
        self.prepared = True  # The tables are made with the schema.
        _SESSIONS.add(self)

    def get_engine(self, dburi: str, **options: Any) -> Any:
        """Return the engine that sessions ask, with Celery's `database_engine_options`."""
        if not self._keep:
            return super().get_engine(dburi, **options)
        if dburi not in self._engines:
            self._engines[dburi] = create_engine(dburi, **options)
        return self._engines[dburi]

    def writer(self, dburi: str, **options: Any) -> Engine:
        """Return the engine that writes, each statement by itself. Until `close_when_idle` its connection stays open."""
        _ALARM.stop()
        if self._writer is None:
            self._sized = bool(SIZES.intersection(options))
            # The server may have been started again since.
            usual = {} if self._sized else {"pool_size": 1, "pool_pre_ping": True}
            self._writer = create_engine(dburi, **{**usual, **options, "isolation_level": "AUTOCOMMIT"})
        return self._writer

    def close_when_idle(self) -> None:
        """Close the connection that writes some seconds from now, unless it is used before."""
        if not self._sized:
            _ALARM.start()

    def keep_connection(self, dburi: str) -> None:
        """Have sessions share a connection from now on."""
        self._keep = True
        self._sessions.pop(dburi, None)  # As `invalidate` does, which Celery has since 5.6.3.
        if engine := self._engines.pop(dburi, None):
            engine.dispose()

    def close(self) -> None:
        """Close the connection that writes."""
        if self._writer is not None:
            self._writer.dispose()

    def forget_connections(self) -> None:
        """Leave the connections to the process that this one was forked from."""
        for engine in filter(None, [*self._engines.values(), self._writer]):
            engine.dispose(close=False)
        self._engines.clear()
        self._sessions.clear()
        self._writer = None


#: Those of this process.
_SESSIONS: weakref.WeakSet[Sessions] = weakref.WeakSet()


class _Alarm:
    """Closes what writes when nobody has for a while: by SIGALRM, as a thread would have to end for each fork, and a task is one.

    A slot is free in the meantime, or waits for its task's process. Where SIGALRM is somebody else's, and in a thread of a pool of
    threads, the connection stays open.
    """

    def start(self) -> None:
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGALRM) in {signal.SIG_DFL, self._ring}:
            signal.signal(signal.SIGALRM, self._ring)
            signal.setitimer(signal.ITIMER_REAL, IDLE)

    def stop(self) -> None:
        if signal.getsignal(signal.SIGALRM) == self._ring:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def forget(self) -> None:
        """Leave SIGALRM to a forked process, which has no timer of ours."""
        if signal.getsignal(signal.SIGALRM) == self._ring:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def _ring(self, *_: object) -> None:
        for sessions in list(_SESSIONS):
            sessions.close()


_ALARM = _Alarm()


def _after_fork() -> None:
    _ALARM.forget()
    for sessions in list(_SESSIONS):
        sessions.forget_connections()


os.register_at_fork(after_in_child=_after_fork)


class _Row:
    """The statement that writes a result, compiled once: where Celery looks for the row, makes it, changes it, and ends a transaction."""

    def __init__(self, table: Table, dialect: Dialect) -> None:
        names = [column.name for column in table.columns if column.name != "id"]
        row = insert(table).values(dict.fromkeys(names))
        changes = {name: row.excluded[name] for name in names if name != "task_id"}
        self._sql = str(row.on_conflict_do_update(index_elements=["task_id"], set_=changes).inline().compile(dialect=dialect))
        self._processors: dict[str, Callable[[Any], Any] | None] = {
            name: table.columns[name].type.dialect_impl(dialect).bind_processor(dialect) for name in names
        }

    def write(self, engine: Engine, values: Mapping[str, Any]) -> None:
        """Write what `values` has of the columns; the others are NULL."""
        row = {name: process(values.get(name)) if process else values.get(name) for name, process in self._processors.items()}
        with engine.begin() as connection:
            connection.exec_driver_sql(self._sql, row)


class ResultBackend(DatabaseBackend):  # type: ignore[misc]  # as above
    """Celery's own, with our sessions. Celery finds it by its configuration (`override_backends`)."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._sessions = Sessions()  # Celery's constructor asks for a session.
        self._row: _Row | None = None
        super().__init__(*arguments, **options)
        self.session_manager = self._sessions
        self._is_postgres = make_url(self.url).get_backend_name() == "postgresql"

    def ResultSession(self, _: Any = None) -> Any:  # noqa: N802  # Celery's name
        """Return a session of ours."""
        return super().ResultSession(self._sessions)

    @retry  # type: ignore[untyped-decorator]  # as above
    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: str | None = None, request: Any = None, **options: Any
    ) -> None:
        """Write a result in one statement."""
        if not self._is_postgres:
            super()._store_result(task_id, result, state, traceback=traceback, request=request, **options)
            return
        engine = self._sessions.writer(self.url, **self.engine_options)
        if self._row is None:
            self._row = _Row(self.task_cls.__table__, engine.dialect)
        meta = self._get_result_meta(result=result, state=state, traceback=traceback, request=request, format_date=False, encode=True)
        self._row.write(engine, {**meta, "task_id": task_id})
        self._sessions.close_when_idle()

    def keep_connection(self) -> None:
        """Ask over one connection from now on, as a scheduler does that asks in each of its rounds.

        A new one costs Postgres 5 ms of CPU, and a new engine asks the server who it is: of 100 empty tasks each took
        15 ms more.
        """
        self._sessions.keep_connection(self.url)
