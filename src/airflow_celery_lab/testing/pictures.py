"""Pictures of what a terminal shows, for the pages."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console, RenderableType


def draw(path: Path, parts: Iterable[RenderableType], title: str, width: int) -> None:
    """Write an SVG picture of `parts` below each other, `width` columns wide; it loads nothing from elsewhere."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor", highlight=False)
    for part in parts:
        console.print(part)
    picture = re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title=title, unique_id=path.stem), flags=re.DOTALL)
    picture = "\n".join(line.rstrip() for line in picture.splitlines())
    path.write_text(picture.replace("Fira Code,", "").strip() + "\n", encoding="utf-8")
