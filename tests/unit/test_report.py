from __future__ import annotations

from html.parser import HTMLParser

import pytest

from airflow_celery_lab.experiments import catalogue, report
from airflow_celery_lab.experiments.experiment import Experiment, Finding, Result


class Words(HTMLParser):
    """The words that a page shows."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[str] = []

    def handle_data(self, data: str) -> None:
        if self.cdata_elem is None:  # Else it is a script, or a style.
            self.shown.append(data)


@pytest.mark.parametrize("experiment", catalogue.EXPERIMENTS, ids=lambda one: one.name)
def test_the_page_of_an_experiment_has_all_that_its_handbook_says(experiment: Experiment) -> None:
    words = Words()
    words.feed(report.page(Result(experiment, "as predicted", [], Finding([], {}), {}, "")))

    told = [experiment.question, experiment.prediction, experiment.mechanism, *experiment.next, *(one.does for one in experiment.settings)]
    shown = " ".join("".join(words.shown).split())
    assert [text for text in told if " ".join(text.replace("`", "").split()) not in shown] == []
