"""Modules that are imported before a process is forked, so that its forks share them and need not."""

from __future__ import annotations

#: What each slot, or each task's process, would import, for 0.1 s and more, and Airflow's worker does not.
OF_TASKS = (
    "airflow.dag_processing.dagbag",
    "airflow.providers.standard.decorators.python",
    "airflow.sdk.definitions.asset.metadata",
    "airflow.sdk.definitions.connection",
    "airflow.sdk.definitions.decorators",
    "airflow.version",
    "airflow_celery_lab.inside_airflow.coordinator",
    "airflow_celery_lab.inside_airflow.dag_folder",
    "airflow_celery_lab.inside_airflow.experiment_folder",
    "airflow_celery_lab.inside_airflow.hostname",
    "cffi.cparser",  # Celery binds each slot to the life of its worker by it.
)
#: What two or more of the processes import, or one of them in each of its own forks; where a release of Airflow has it under another
#: name, they import it.
OF_PROCESSES = (
    "airflow.__main__",
    "airflow.api_fastapi.app",
    "airflow.api_fastapi.execution_api.app",
    "airflow.api_fastapi.execution_api.routes",
    "airflow.api_fastapi.execution_api.versions",
    "airflow.cli.commands.daemon_utils",
    "airflow.dag_processing.manager",
    "airflow.jobs.dag_processor_job_runner",
    "airflow.jobs.scheduler_job_runner",
    "airflow.jobs.triggerer_job_runner",
    "airflow.migrations.db_types",
    "airflow.migrations.utils",
    "airflow.models.renderedtifields",
    "airflow.providers.celery.cli.celery_command",
    "airflow.providers.celery.executors.celery_executor",
    "airflow.providers.standard.sensors.external_task",
    "airflow.providers.standard.sensors.time_delta",
    "airflow.serialization.definitions.mappedoperator",
    "airflow.utils.memray_utils",
    "airflow.utils.serve_logs",
    "alembic.command",
    "alembic.config",
    "anyio._backends._asyncio",
    "celery.app.amqp",
    "celery.app.control",
    "celery.app.events",
    "celery.apps.worker",
    "celery.bin.celery",
    "celery.concurrency.prefork",
    "kombu.transport.redis",
    "uvicorn",
    *OF_TASKS,
)
