from __future__ import annotations

import re

from airflow_celery_lab import errors
from airflow_celery_lab.cli import main
from airflow_celery_lab.cli.app import app
from airflow_celery_lab.configuration.roots import DATA as CHECKOUT
from airflow_celery_lab.configuration.settings import BASE_PORTS, SETTINGS

README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
PAGES = {path.relative_to(CHECKOUT / "docs"): path.read_text(encoding="utf-8") for path in (CHECKOUT / "docs").rglob("*.md")}
REFERENCE = (CHECKOUT / "docs" / "settings.md").read_text(encoding="utf-8")


def commands() -> set[str]:
    assert main.GROUPS  # Importing it has registered them.
    return {
        command.name or (command.callback.__name__ if command.callback else "") for command in app.registered_commands if not command.hidden
    }


def statuses() -> dict[int, type[errors.LabError]]:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.LabError)]
    return {kind.status: kind for kind in kinds if kind is not errors.LabError}


def test_every_command_that_the_readme_shows_exists_and_every_one_is_shown() -> None:
    shown = set(re.findall(r"\./lab ([a-z-]+)", README)) | {"stop", "restart", "pause", "resume"}

    assert shown == commands()


def test_every_command_that_a_page_shows_exists() -> None:
    shown = {(page, name) for page, text in PAGES.items() for name in re.findall(r"(?:\./lab|airflow-celery-lab) ([a-z][a-z-]+)\b", text)}

    assert [(str(page), name) for page, name in shown if name not in commands() | {"exec"}] == []


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_the_pages_link_to_what_is_there() -> None:
    pages = {CHECKOUT / "README.md": README, **{CHECKOUT / "docs" / page: text for page, text in PAGES.items()}}
    links = [(page, link) for page, text in pages.items() for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)]

    assert [f"{page.name}: {link}" for page, link in links if not (page.parent / link).exists()] == []


def test_the_reference_names_every_setting_and_port() -> None:
    assert not [name for name in SETTINGS if f"`{name}`" not in REFERENCE]
    assert not [port for port in BASE_PORTS.values() if f"| {port} |" not in REFERENCE]


def test_each_kind_of_error_has_an_exit_status_of_its_own_and_the_reference_lists_all() -> None:
    listed = {int(number) for number in re.findall(r"^ *(\d+) \w", REFERENCE.split("## Exit statuses")[1], flags=re.MULTILINE)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.LabError)]

    assert len(statuses()) == len(kinds) - 1
    assert listed == {0, errors.FAILED, errors.USAGE, errors.INTERRUPTED, errors.NOBODY_READS, errors.TERMINATED, *statuses()}
