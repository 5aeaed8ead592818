"""Long loops say how far they are, so that nobody waits for minutes before a silent terminal."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

NOTE_EVERY_S = 20.0
T = TypeVar("T")

_log = logging.getLogger(__name__)


def watched(items: Iterable[T], *, total: int, what: str, clock: Callable[[], float] = time.monotonic) -> Iterator[T]:
    """Pass `items` on; after each 20 s, log a warning with the number done and the time left.

    Args:
        items: what to pass on.
        total: how many there are.
        what: what is being done to them, for the message.
        clock: seconds.
    """
    started = said = clock()
    for done, item in enumerate(items):
        now = clock()
        if done and now - said >= NOTE_EVERY_S:
            said = now
            left_s = (now - started) / done * (total - done)
            _log.warning("%s: %s of %s done, about %.0f s left", what, f"{done:,}", f"{total:,}", left_s)
        yield item
