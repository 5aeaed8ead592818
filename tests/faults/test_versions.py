"""A node with another version of torch than the driver: the search refuses it, and says which node has what."""

import re
from pathlib import Path

import pytest
from clusters import local_cluster, one_more_node
from search_checks import check_whole
from studies import metaopt, tiny_study, write_study

from metaopt.errors import ConfigError
from metaopt.search.versions import difference, refuse_node, versions


def test_differences_are_named() -> None:
    here = versions()
    assert difference(here, dict(here), "node a") == ""
    there = here | {"torch": "9.9.9", "ray": "none"}
    assert difference(here, there, "node a") == (
        f"node a has torch 9.9.9, ray none, but the search has torch {here['torch']}, ray {here['ray']}"
    )
    assert "metaopt none" in difference(here, {}, "node a")
    with pytest.raises(ConfigError, match=r"node a has torch 9.* Install those there and restart its Ray"):
        refuse_node(difference(here, there, "node a"))


def test_a_node_with_another_torch_is_refused(tmp_path: Path) -> None:
    shadow = tmp_path / "shadow" / "torch-9.9.9.dist-info"
    shadow.mkdir(parents=True)
    (shadow / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 9.9.9\n")
    settings = {"trials": 6, "seed": 1, "sampler": "random"}
    study, out = write_study(tmp_path, tiny_study(search=settings)), tmp_path / "out"
    with local_cluster(tmp_path, nodes=0) as cluster:
        with one_more_node(cluster, PYTHONPATH=str(shadow.parent)):
            refused = metaopt("search", study, "--out", out, env=cluster.client)
        assert refused.returncode == 2, refused.stdout + refused.stderr
        assert "Traceback" not in refused.stderr
        here = re.escape(versions()["torch"])
        assert re.search(
            r"metaopt: The nodes must have the versions that the search has, but node \S+ \(\w{8}\) "
            rf"has torch 9\.9\.9, but the search has torch {here}\. Install those there",
            refused.stderr,
        )
        with one_more_node(cluster):
            done = metaopt("search", study, "--out", out, "--resume", env=cluster.client)
    assert done.returncode == 0, done.stdout + done.stderr
    check_whole(out, "tiny", 6, n_points=21)
