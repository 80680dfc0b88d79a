from __future__ import annotations

from collections.abc import Iterator

import pytest

from .sandbox import Sandbox, Warm


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    own = Warm()
    yield own
    own.close()


@pytest.fixture
def sandbox(warm: Warm) -> Iterator[Sandbox]:
    """Make a lab to take apart, and check that it leaves no process behind."""
    own = Sandbox(warm)
    try:
        yield own
    finally:
        own.close()
