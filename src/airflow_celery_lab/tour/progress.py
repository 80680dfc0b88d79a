"""How far the user has come, and which predictions were right. Data and rules; the file is read and written elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Progress:
    """The tour as far as it was made."""

    step: int = 1  #: the next one, from 1; one more than there are: none
    predictions: Mapping[str, bool] = field(default_factory=dict)  #: whether each was right, by the number of its step

    def after(self, step: int, right: bool | None) -> Progress:  # noqa: FBT001  # a fact, not a switch
        """Return the progress when a step has been made; `right` is None where nothing was predicted."""
        kept = {number: was for number, was in self.predictions.items() if number != str(step)}
        return replace(self, step=step + 1, predictions=kept if right is None else {**kept, str(step): right})

    def told(self) -> str:
        """Return the score in a sentence, nothing where nothing was predicted."""
        made, right = len(self.predictions), sum(self.predictions.values())
        if not made:
            return ""
        return f"{right} of your {made} predictions {'was' if right == 1 else 'were'} right." if made > 1 else _single(right)

    def as_text(self) -> str:
        """Return what the file holds."""
        return json.dumps(asdict(self))


def parse(text: str, steps: int) -> Progress:
    """Return what a file of progress holds; the beginning, where it is of no use. There are so many `steps`."""
    try:
        data: Any = json.loads(text)
        step, predictions = int(data["step"]), {str(int(number)): bool(right) for number, right in data["predictions"].items()}
    except (ValueError, TypeError, LookupError, AttributeError):
        return Progress()
    return Progress(step, predictions) if 1 <= step <= steps + 1 else Progress()


def _single(right: int) -> str:
    return "Your prediction was right." if right else "Your prediction was wrong."
