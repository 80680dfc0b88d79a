"""The Nix shell, the devcontainer and the README promise the same versions; here they are compared."""

from __future__ import annotations

import json
import re

from airflow_celery_lab.configuration.roots import DATA as CHECKOUT

#: What Debian 13, of which the devcontainer is made, has.
TRIXIE = {"python": "3.13", "postgres": "17", "redis": "8"}
NAMES = {"python": "Python", "postgres": "Postgres", "redis": "Redis"}


def text(name: str) -> str:
    return (CHECKOUT / name).read_text(encoding="utf-8")


def in_the_flake() -> dict[str, str]:
    """Return the versions that the flake asks for, and looks after in `nix flake check`."""
    named = dict(re.findall(r'^\s+(python|postgresql|redis)[_\d]* = "([\d.]+)";', text("flake.nix"), flags=re.MULTILINE))
    return {"python": named["python"], "postgres": named["postgresql"], "redis": named["redis"]}


def test_the_flake_and_the_devcontainer_have_the_same_versions() -> None:
    assert in_the_flake() == TRIXIE


def test_the_flakes_attributes_carry_the_versions_that_it_promises() -> None:
    used = set(re.findall(r"pkgs\.((?:python|postgresql|redis)\w*)", text("flake.nix")))
    versions = in_the_flake()

    assert used == {f"python{versions['python'].replace('.', '')}", f"postgresql_{versions['postgres']}", "redis"}


def test_the_image_is_debian_13_and_installs_its_postgres_and_redis() -> None:
    dockerfile = text(".devcontainer/Dockerfile")

    assert re.findall(r"^FROM (\S+)", dockerfile, flags=re.MULTILINE) == ["mcr.microsoft.com/devcontainers/base:trixie"]
    assert f"postgresql-{TRIXIE['postgres']} python3 python3-venv redis-server" in dockerfile
    assert f"LAB_POSTGRES_BIN=/usr/lib/postgresql/{TRIXIE['postgres']}/bin" in dockerfile
    assert "Debian 13: " + ", ".join(f"{NAMES[part]} {version}" for part, version in TRIXIE.items()) in dockerfile


def test_the_page_of_the_three_ways_names_these_versions_for_both() -> None:
    row = next(line for line in text("docs/three-ways.md").splitlines() if line.startswith("| Python, Postgres, Redis"))
    versions = ", ".join(TRIXIE.values())

    assert [cell.strip() for cell in row.split("|")[3:5]] == [versions, versions]


def test_all_three_ways_install_the_same_locked_packages() -> None:
    """There is one lock, `./lab` reads it, and each way goes through `./lab`."""
    lock = text("requirements.lock")
    ways = {name: text(name) for name in ("flake.nix", "nix/shell-hook.sh", ".devcontainer/Dockerfile", ".devcontainer/update")}

    assert re.search(r"^apache-airflow==", lock, flags=re.MULTILINE)
    assert [name for name, words in ways.items() if re.search(r"pip install|uv sync|buildPythonPackage|withPackages", words)] == []
    assert "lab setup" in ways["nix/shell-hook.sh"]
    assert "./lab setup" in ways[".devcontainer/update"]


def test_the_devcontainer_forwards_the_ports_that_the_lab_listens_on() -> None:
    from airflow_celery_lab.configuration.settings import BASE_PORTS

    configuration = json.loads(re.sub(r"^\s*//.*", "", text(".devcontainer/devcontainer.json"), flags=re.MULTILINE))

    assert configuration["forwardPorts"] == [BASE_PORTS["webserver"], BASE_PORTS["flower"]]
    assert set(configuration["portsAttributes"]) == {str(port) for port in configuration["forwardPorts"]}
