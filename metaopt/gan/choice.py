"""What a message says about a name that is not there."""

from collections.abc import Iterable
from difflib import get_close_matches


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Message for a name that is not in a table: the nearest one, and all there are."""
    names = list(known)
    near = get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"There is no {what} {name!r}{hint} Known: {', '.join(names)}."
