"""What somebody may have meant who mistyped a name."""

from __future__ import annotations

from collections.abc import Iterable


def suggest(name: str, known: Iterable[str], otherwise: str) -> str:
    """Return the end of a sentence about an unknown name: the known one that is most alike, or `otherwise` where none is."""
    import difflib  # Launchers import this module, and stay small.

    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else otherwise


def there_is(known: Iterable[str]) -> str:
    """Return the other end of such a sentence: all names that there are."""
    return f"there is {', '.join(known) or 'none yet'}."
