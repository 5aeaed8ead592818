"""The front of several objectives, against its definition."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from metaopt.meta.pareto import pareto_front

COORDINATE = st.one_of(st.integers(0, 4).map(float), st.floats(-1e9, 1e9))
POINTS = st.integers(1, 4).flatmap(lambda k: st.lists(st.tuples(*[COORDINATE] * k), max_size=40))


def by_definition(points: list[tuple[float, ...]]) -> list[int]:
    def dominated(b: tuple[float, ...]) -> bool:
        return any(a != b and all(x <= y for x, y in zip(a, b, strict=True)) for a in points)

    return [place for place, point in enumerate(points) if not dominated(point)]


@given(POINTS)
def test_front_is_that_of_its_definition(points: list[tuple[float, ...]]) -> None:
    assert pareto_front(points) == by_definition(points)


def test_all_of_a_small_grid() -> None:
    points = [(float(x), float(y)) for x, y in product(range(4), range(4)) if x + y >= 3]
    assert [points[place] for place in pareto_front(points)] == [(0, 3), (1, 2), (2, 1), (3, 0)]


def test_one_objective_equals_and_nothing() -> None:
    assert pareto_front([(2.0,), (1.0,), (3.0,), (1.0,)]) == [1, 3]
    assert pareto_front([]) == []
