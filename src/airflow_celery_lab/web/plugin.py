"""The plugin that a lab's api-server finds by the metadata beside this module. The folder of plugins stays the user's."""

from __future__ import annotations

import logging
import os
from functools import cached_property
from typing import Any

from airflow.plugins_manager import AirflowPlugin

#: Where the pages are, below Airflow's own address.
PREFIX = "lab"
#: A laboratory's flask, in a colour that can be seen on a light and on a dark ground.
ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' stroke='%23808080' stroke-width='2' "
    "stroke-linecap='round' stroke-linejoin='round'%3E%3Cpath d='M9 3h6M10 3v6L4.5 19a1.5 1.5 0 0 0 1.4 2h12.2a1.5 1.5 0 0 0 1.4-2L14 9V3M7 15h10'/%3E%3C/svg%3E"
)


class LabPlugin(AirflowPlugin):
    """The lab in the navigation, and the timeline of a DAG run as a tab."""

    name = "airflow_celery_lab"

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]  # as Airflow reads it
        """What the api-server mounts: nothing, if this Airflow lacks the check that guards it."""
        try:
            from airflow_celery_lab.web.app import app

            return [{"app": app(), "url_prefix": f"/{PREFIX}", "name": "Airflow Celery Lab"}]
        except ImportError as error:
            logging.getLogger(__name__).warning("The lab has no page in this Airflow: %s", error)
            return []

    @cached_property
    def external_views(self) -> list[dict[str, Any]]:  # type: ignore[override]  # as Airflow reads it
        """What the interface links to. Paths start at Airflow's own address, so they begin with no slash."""
        if not self.fastapi_apps:
            return []
        from airflow_celery_lab.configuration import settings

        flower = settings.load(os.environ).url("flower")
        common = {"icon": ICON, "icon_dark_mode": ICON}
        return [
            {**common, "name": "Lab", "href": f"{PREFIX}/", "destination": "nav", "url_route": "lab", "nav_top_level": True},
            {
                **common,
                "name": "Timeline",
                "href": f"{PREFIX}/dags/{{DAG_ID}}/runs/{{RUN_ID}}",
                "destination": "dag_run",
                "url_route": "lab-timeline",
            },
            # In a frame too: without a route Airflow 3.3 draws a button that does nothing.
            {"name": "Flower", "href": flower, "destination": "nav", "url_route": "flower", "nav_top_level": True},
        ]
