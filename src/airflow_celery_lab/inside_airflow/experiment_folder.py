"""The DAG bundle of the lab's experiments: empty, and so nothing that anybody sees, but while one runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.inside_airflow import dag_sources
from airflow_celery_lab.inside_airflow.dag_folder import DagFolder


class ExperimentFolder(DagFolder):
    """The folder in the lab's state that experiments write their DAGs into, looked through as soon as something changes there."""

    def __init__(self, **options: Any) -> None:
        # Tasks make one too: the state folder is found without reading any setting.
        state = State(Path(os.environ["AIRFLOW_HOME"]).parent)
        super().__init__(path=str(state.experiment_dags), **options)

    def refresh(self) -> None:
        """Take in what was written; nothing is edited here, so nothing has to be parsed again."""
        self._saved = dag_sources.saved(self.path)
