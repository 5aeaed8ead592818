"""How many trials fit on a node and on a GPU."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaopt.errors import ConfigError
from metaopt.search.packing import Node, Share, larger, measured_share
from metaopt.training.footprint import Footprint

ONE = Footprint(process_mb=600, memory_mb=100, gpu_memory_mb=1000, gpu_context_mb=400)
GPU_NODE = Node(cpu=16, gpu=1, memory_mb=64_000, gpu_memory_mb=24_000, name="a")


def test_a_cpu_trial_takes_its_process_and_all_its_trainings_at_once() -> None:
    share = measured_share({0: ONE, 1: replace(ONE, memory_mb=50)}, [(0, 1)], [Node(cpu=4)])
    assert share == Share(cpu=1, gpu=0, memory_mb=600 + 1.2 * 150)


def test_trainings_of_different_stages_do_not_add_up() -> None:
    assert measured_share({0: ONE, 1: ONE}, [(0,), (1,)], [Node(cpu=4)]).memory_mb == 600 + 1.2 * 100


@pytest.mark.parametrize(
    ("gpu_memory_mb", "cpu", "k"),
    [
        (24_000, 64, 14),  # 0.95 * 24000 / (400 + 1.2 * 1000) = 14.25
        (24_000, 8, 8),  # as many as there are CPUs for
        (1700, 64, 1),
    ],
)
def test_a_gpu_is_shared_by_as_many_as_fit(gpu_memory_mb: float, cpu: float, k: int) -> None:
    node = replace(GPU_NODE, gpu_memory_mb=gpu_memory_mb, cpu=cpu)
    share = measured_share({0: ONE}, [(0,)], [node])
    assert share.gpu == pytest.approx(1 / k, abs=1e-4)
    assert node.room(share) == k
    assert share.gpu_context_mb == 400


def test_the_smallest_gpu_sets_the_share() -> None:
    small = replace(GPU_NODE, gpu_memory_mb=5000, name="b")
    assert measured_share({0: ONE}, [(0,)], [GPU_NODE, small]).gpu == 0.5


def test_a_gpu_that_is_too_small_is_named() -> None:
    small = replace(GPU_NODE, gpu_memory_mb=1000, name="b")
    with pytest.raises(ConfigError, match="takes 1600 MiB, and one of node b has 1000 MiB"):
        measured_share({0: ONE}, [(0,)], [GPU_NODE, small])


@given(
    n=st.integers(1, 5),
    gpu_mb=st.floats(1, 5000),
    context_mb=st.floats(1, 1000),
    node=st.builds(
        Node,
        cpu=st.integers(1, 128),
        gpu=st.integers(1, 8),
        gpu_memory_mb=st.floats(500, 90_000),
        name=st.just("a"),
    ),
)
def test_trials_never_need_more_than_the_gpu_has(n: int, gpu_mb: float, context_mb: float, node: Node) -> None:
    one, total_mb = replace(ONE, gpu_memory_mb=gpu_mb, gpu_context_mb=context_mb), node.gpu_memory_mb
    try:
        share = measured_share(dict.fromkeys(range(n), one), [tuple(range(n))], [node])
    except ConfigError:
        assert n * gpu_mb + context_mb > 0.7 * total_mb
        return
    on_one_gpu = min(int(1 / share.gpu), node.room(share))
    assert on_one_gpu * (n * gpu_mb + context_mb) <= total_mb
    assert n * gpu_mb <= share.gpu * total_mb - share.gpu_context_mb  # the cap leaves it what it was measured to need
    assert node.room(share) <= node.cpu


@pytest.mark.parametrize(
    ("share", "node", "room"),
    [
        (Share(cpu=0.1), Node(cpu=0.3), 3),  # no rounding error
        (Share(cpu=1, gpu=0.3), Node(cpu=16, gpu=2), 6),  # a part is of one GPU
        (Share(cpu=1, gpu=2), Node(cpu=16, gpu=5), 2),
        (Share(cpu=1, memory_mb=1000), Node(cpu=16, memory_mb=2999), 2),
        (Share(cpu=1, gpu=0.5), Node(cpu=16), 0),
    ],
)
def test_room(share: Share, node: Node, room: int) -> None:
    assert node.room(share) == room


def test_a_larger_share_is_twice_as_large_where_one_node_has_that() -> None:
    nodes = [Node(cpu=4, gpu=1, memory_mb=3000), Node(cpu=2, memory_mb=5000)]
    assert larger(Share(cpu=1, memory_mb=2000), nodes) == Share(cpu=2, memory_mb=4000)
    assert larger(Share(cpu=1, gpu=0.25, memory_mb=2000), nodes) == Share(cpu=2, gpu=0.5, memory_mb=3000)
    assert larger(Share(cpu=3, gpu=0.75, memory_mb=1000), nodes) == Share(cpu=4, gpu=1, memory_mb=2000)
    assert larger(Share(cpu=8, gpu=2), nodes) == Share(cpu=8, gpu=2)


@given(
    nodes=st.lists(
        st.builds(Node, cpu=st.integers(1, 8), gpu=st.integers(0, 2), memory_mb=st.floats(100, 9000)),
        min_size=1,
        max_size=4,
    ),
    cpu=st.integers(1, 4),
    gpu=st.sampled_from([0, 0.25, 0.5, 0.75, 1]),
    memory_mb=st.floats(50, 5000),
)
def test_a_larger_share_fits_where_the_share_has(nodes: list[Node], cpu: int, gpu: float, memory_mb: float) -> None:
    share = Share(cpu=cpu, gpu=gpu, memory_mb=memory_mb)
    if any(node.room(share) for node in nodes):
        more = larger(share, nodes)
        assert any(node.room(more) for node in nodes)
        assert more.cpu >= share.cpu and more.gpu >= share.gpu and more.memory_mb >= memory_mb  # type: ignore[operator]
