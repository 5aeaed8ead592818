"""A search on a cluster of several nodes, as processes on this machine."""

from pathlib import Path

from clusters import local_cluster
from search_checks import check_whole
from studies import metaopt, tiny_study, write_study


def test_search_runs_on_the_cluster_at_ray_address_and_leaves_it_running(tmp_path: Path) -> None:
    study = write_study(tmp_path, tiny_study())
    with local_cluster(tmp_path, nodes=2) as cluster:
        done = metaopt("search", study, "--out", tmp_path / "out", env=cluster.client)
        assert done.returncode == 0, done.stdout + done.stderr
        assert cluster.process.poll() is None
    check_whole(tmp_path / "out", "tiny", 6, n_points=21)
