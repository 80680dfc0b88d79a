"""Pictures of what a terminal or a browser shows, for the pages."""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console, RenderableType

from airflow_celery_lab.testing.browser import browser


def draw(path: Path, parts: Iterable[RenderableType], title: str, width: int) -> None:
    """Write an SVG picture of `parts` below each other, `width` columns wide; it loads nothing from elsewhere."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor", highlight=False)
    for part in parts:
        console.print(part)
    picture = re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title=title, unique_id=path.stem), flags=re.DOTALL)
    picture = "\n".join(line.rstrip() for line in picture.splitlines())
    path.write_text(picture.replace("Fira Code,", "").strip() + "\n", encoding="utf-8")


def photograph(path: Path, page: str, width: int) -> None:
    """Write a PNG picture of a timeline's page, `width` pixels wide and as high as the page.

    Raises:
        MissingProgramError: there is no Chromium on this machine.

    """
    with tempfile.TemporaryDirectory() as folder, browser(width=width, height=100) as window:
        file = Path(folder) / "page.html"
        file.write_text(page, encoding="utf-8")
        window.open(file.as_uri(), "document.body?.dataset.drawn === 'yes'")
        window.look(width, int(window.evaluate("document.documentElement.scrollHeight")))
        window.photograph(path)


def photograph_timelines(path: Path, page: Path, width: int) -> None:
    """Write a PNG picture of the timelines on the page of an experiment's result, `width` pixels wide.

    Raises:
        MissingProgramError: there is no Chromium on this machine.

    """
    with browser(width=width, height=100) as window:
        window.open(page.absolute().as_uri(), "document.body?.dataset.drawn === 'yes'")
        window.evaluate("document.body.replaceChildren(...document.querySelectorAll('h3, .legend, .timeline'))")
        window.look(width, int(window.evaluate("document.documentElement.scrollHeight")))
        window.photograph(path)
