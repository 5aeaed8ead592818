"""Which of several points no other one is better than."""

from collections.abc import Sequence


def pareto_front(points: Sequence[Sequence[float]]) -> list[int]:
    """Places in `points`, ascending, of those that none dominates; lower is better in each coordinate.

    One dominates another if it is at most as large in all coordinates and smaller in one; equal points are all on the
    front. Coordinates are finite, and as many for each point.
    """
    front: list[int] = []
    for place in sorted(range(len(points)), key=lambda place: tuple(points[place])):
        # who dominates a point comes before it in this order, and so does one of the front that dominates it too
        if not any(_dominates(points[other], points[place]) for other in front):
            front.append(place)
    return sorted(front)


def _dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))
