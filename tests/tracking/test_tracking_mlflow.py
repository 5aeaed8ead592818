"""What MLflow holds after a study, read back from real SQLite stores."""

import gc
import math
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.store.artifact.artifact_repo import ArtifactRepository

from metaopt.errors import ConfigError
from metaopt.tracking import Point, find_runs, load_curve, load_runs, open_tracker
from metaopt.tracking.curves import MAX_POINTS
from metaopt.tracking.events import Artifact, EndTrial, StartStudy, StartTrial
from metaopt.tracking.mlflow_store import MlflowSink, entity_key

WAIT_S = 600.0
EXPERIMENT = "learn digits"


def point(step: int, value: float = 0.5, key: str = "digits/fid") -> Point:
    return Point(key=key, value=value, step=step, timestamp_ms=1_700_000_000_000 + step)


def deliver(uri: str, spool_dir: Path, *calls) -> None:
    tracker = open_tracker(uri, EXPERIMENT, spool_dir)
    for call in calls:
        call(tracker)
    assert tracker.close(WAIT_S) == 0


def start(uid: str, **params: str | float):
    return lambda t: t.start_trial(uid, name=f"trial {uid}", params=params, tags={"family": "knots"})


def log(uid: str, *points: Point):
    return lambda t: t.log(uid, points)


def end(uid: str, status: str = "FINISHED", **metrics: float):
    return lambda t: t.end_trial(uid, status=status, metrics=metrics, tags={"status": status.lower()})


def start_study(t) -> None:
    t.start_study(params={"sampler": "tpe", "n_trials": 2}, tags={"version": "1"})


def end_study(t) -> None:
    t.end_study(status="FINISHED", metrics={"best_score": -0.5}, tags={"best": "a"})


def rows(tmp_path: Path, query: str) -> list[tuple]:
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        return database.execute(query).fetchall()


def parents(uri: str) -> list:
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(EXPERIMENT)
    return [r for r in client.search_runs([found.experiment_id]) if "mlflow.parentRunId" not in r.data.tags]


def test_everything_comes_back(store, tmp_path):
    picture = tmp_path / "grid.png"
    picture.write_bytes(b"png")
    deliver(
        store,
        tmp_path,
        start_study,
        start("a", lr=1e-4, family="knots"),
        log("a", point(0, 3.0), point(100, 2.0)),
        lambda t: t.log_artifact("a", picture, folder="samples"),
        lambda t: t.log_artifact(None, picture),
        start("b", lr=2e-4),
        log("b", point(0, math.nan), point(1, math.inf), point(2, -math.inf)),
        end("b", "FAILED"),
        end("a", score=-0.5),
        end_study,
    )
    a, b = load_runs(store, EXPERIMENT)
    assert (a["name"], a["status"], b["name"], b["status"]) == ("trial a", "FINISHED", "trial b", "FAILED")
    assert a["params.lr"] == "0.0001" and a["params.family"] == "knots"
    assert a["metrics.score"] == -0.5 and a["metrics.digits/fid"] == 2.0
    assert a["tags.metaopt.trial_uid"] == "a" and a["tags.family"] == "knots" and a["tags.status"] == "finished"
    assert load_curve(store, a["run_id"], "digits/fid") == [(0, 3.0), (100, 2.0)]
    assert load_curve(store, a["run_id"], "never logged") == []
    curve = load_curve(store, b["run_id"], "digits/fid")
    assert [step for step, _ in curve] == [0, 1, 2] and all(math.isnan(value) for _, value in curve)
    (parent,) = parents(store)
    assert a["tags.mlflow.parentRunId"] == b["tags.mlflow.parentRunId"] == parent.info.run_id
    assert parent.info.status == "FINISHED" and parent.info.run_name == EXPERIMENT
    assert parent.data.params == {"sampler": "tpe", "n_trials": "2"}
    assert parent.data.metrics == {"best_score": -0.5} and parent.data.tags["best"] == "a"
    artifacts = tmp_path / "mlartifacts"
    assert (artifacts / a["run_id"] / "artifacts" / "samples" / "grid.png").read_bytes() == b"png"
    assert (artifacts / parent.info.run_id / "artifacts" / "grid.png").read_bytes() == b"png"


def test_nothing_is_held_for_the_files_of_runs_that_have_ended(store, tmp_path):
    def held() -> int:
        gc.collect()
        return sum(isinstance(one, ArtifactRepository) for one in gc.get_objects())

    picture = tmp_path / "grid.png"
    picture.write_bytes(b"png")
    sink = MlflowSink(store, EXPERIMENT, study_uid="s")
    sink.deliver(StartStudy(time_ms=1, params={}, tags={}))
    before = held()
    for uid in "abc":
        sink.deliver(StartTrial(time_ms=1, uid=uid, name=uid, params={}, tags={}))
        sink.deliver(Artifact(uid=uid, path=str(picture), folder=""))
    assert held() == before + 3
    for uid in "abc":
        sink.deliver(EndTrial(time_ms=2, uid=uid, status="FINISHED", metrics={}, tags={}))
    assert held() == before


def test_times_are_those_of_the_calls_not_of_the_delivery(store, tmp_path):
    deliver(store, tmp_path, start_study, start("a"), log("a", point(7)), end("a"))
    ((start_ms, end_ms, point_ms),) = rows(
        tmp_path,
        "select r.start_time, r.end_time, m.timestamp from runs r join metrics m on m.run_uuid = r.run_uuid",
    )
    spooled = (tmp_path / "events.jsonl").read_text()
    assert f'"time_ms": {start_ms}' in spooled and f'"time_ms": {end_ms}' in spooled
    assert point_ms == 1_700_000_000_007


def test_replaying_the_whole_spool_changes_nothing(store, tmp_path):
    deliver(store, tmp_path, start_study, start("a", lr=1e-4), log("a", *map(point, range(2_000))))
    deliver(store, tmp_path, log("a", point(2_000, math.nan)), end("a", score=1.0), end_study)
    tables = ("runs", "metrics", "params", "tags", "latest_metrics")
    before = [sorted(map(repr, rows(tmp_path, f"select * from {table}"))) for table in tables]
    for _ in range(2):
        (tmp_path / "events.jsonl.ack").unlink()
        deliver(store, tmp_path)
    assert [sorted(map(repr, rows(tmp_path, f"select * from {table}"))) for table in tables] == before


def test_a_resumed_study_goes_on_in_the_same_runs(store, tmp_path):
    deliver(store, tmp_path, start_study, start("a", lr=1.0), log("a", point(0)), end("a", score=1.0))
    deliver(store, tmp_path, start("b", lr=2.0), log("b", point(0), point(5)), end("b", "KILLED"), end_study)
    # the search comes back, tells again what it knows, trains b from its checkpoint at step 0
    deliver(store, tmp_path, start_study, start("a", lr=1.0), end("a", score=1.0), start("b", lr=2.0))
    assert [(r["name"], r["status"]) for r in load_runs(store, EXPERIMENT)] == [
        ("trial a", "FINISHED"),
        ("trial b", "RUNNING"),
    ]
    (parent,) = parents(store)
    assert parent.info.status == "RUNNING"
    late = [Point(key="digits/fid", value=0.5, step=step, timestamp_ms=2_000_000_000_000) for step in (5, 10)]
    deliver(store, tmp_path, log("b", *late), end("b", score=2.0), end_study)
    a, b = load_runs(store, EXPERIMENT)
    assert (a["status"], b["status"]) == ("FINISHED", "FINISHED")
    per_step = "select step, count(*) from metrics where key = 'digits/fid' group by run_uuid, step"
    assert sorted(rows(tmp_path, per_step)) == [(0, 1), (0, 1), (5, 1), (10, 1)]
    assert len(rows(tmp_path, "select * from metrics where key = 'score'")) == 2


def test_two_studies_may_share_an_experiment_and_uids(store, tmp_path):
    for name in ("first", "second"):
        deliver(store, tmp_path / name, start_study, start("a"), log("a", point(0)), end_study)
    runs = load_runs(store, EXPERIMENT)
    assert len(runs) == len({run["tags.mlflow.parentRunId"] for run in runs}) == 2


def test_a_parameter_that_changes_is_reported_and_the_first_value_stays(store, tmp_path, caplog):
    deliver(store, tmp_path, start_study, start("a", lr=1.0), start("a", lr=2.0), log("a", point(0)))
    (run,) = load_runs(store, EXPERIMENT)
    assert run["params.lr"] == "1.0" and run["metrics.digits/fid"] == 0.5
    assert caplog.text.count("Changing param values is not allowed") == 1


@pytest.mark.parametrize("uid", ["it's", 'say "a"', "a/../b", "a\nb", "a#b % or 1=1", "é", "x" * 300])
def test_awkward_uids_are_found_again(store, tmp_path, uid):
    deliver(store, tmp_path, start_study, start(uid), log(uid, point(0)))
    deliver(store, tmp_path, log(uid, point(1)), end(uid))
    (run,) = load_runs(store, EXPERIMENT)
    assert run["tags.metaopt.trial_uid"] == uid and run["status"] == "FINISHED"


def test_long_values_are_cut_and_many_are_sent_in_parts(store, tmp_path):
    params = {f"p{i}": i for i in range(150)} | {"long": "x" * 7_000, "empty": ""}
    tags = {f"t{i}": str(i) for i in range(150)} | {"long": "x" * 9_000, "empty": ""}
    for _ in range(2):
        deliver(store, tmp_path, lambda t: t.start_trial("a", name="a", params=params, tags=tags))
    (run,) = load_runs(store, EXPERIMENT)
    assert run["params.p149"] == "149" and len(run["params.long"]) == 6_000 and run["params.empty"] == ""
    assert run["tags.t149"] == "149" and len(run["tags.long"]) == 8_000 and run["tags.empty"] == ""


@pytest.mark.parametrize(
    ("key", "kept"),
    [
        ("digits/fid", "digits/fid"),
        ("npz:/data/my set.npz/fid", "npz:/data/my set.npz/fid"),
        ("lr(G)=1e-4?", "lr_G__1e-4_"),
        ("/a//b/../c/.", "a/b/c"),
        ("..", "_"),
        ("", "_"),
        ("k" * 300, "k" * 250),
    ],
)
def test_keys_are_brought_into_a_form_that_mlflow_takes(store, tmp_path, key, kept):
    assert entity_key(key) == kept == entity_key(kept)
    deliver(store, tmp_path, start_study, log("a", point(0, 1.0, key)), end("a"))
    (run,) = load_runs(store, EXPERIMENT)
    assert run[f"metrics.{kept}"] == 1.0
    assert load_curve(store, run["run_id"], key) == [(0, 1.0)]


def test_a_missing_artifact_or_a_folder_is_a_warning_and_blocks_nothing(store, tmp_path, caplog):
    gone = tmp_path / "gone.png"
    calls = [lambda t: t.log_artifact("a", gone), lambda t: t.log_artifact("a", tmp_path)]
    deliver(store, tmp_path, start_study, *calls, log("a", point(0)))
    assert [r.args[0] for r in caplog.records if "an artifact must be a file" in r.message] == [
        str(gone),
        str(tmp_path),
    ]
    assert len(load_runs(store, EXPERIMENT)) == 1


def test_an_experiment_deleted_in_the_ui_is_taken_back(store, tmp_path, caplog):
    deliver(store, tmp_path / "first", start_study, log("a", point(0)))
    client = MlflowClient(store)
    client.delete_experiment(client.get_experiment_by_name(EXPERIMENT).experiment_id)
    deliver(store, tmp_path / "second", start_study, log("b", point(0)))
    assert "was deleted; it is restored" in caplog.text
    assert "b" in [run["tags.metaopt.trial_uid"] for run in load_runs(store, EXPERIMENT)]


def test_a_run_deleted_in_the_ui_costs_its_own_points_only(store, tmp_path, caplog):
    tracker = open_tracker(store, EXPERIMENT, tmp_path)
    start_study(tracker)
    assert tracker.close(WAIT_S) == 0
    tracker = open_tracker(store, EXPERIMENT, tmp_path)
    tracker.log("a", [point(0)])
    tracker.log("b", [point(0)])
    while len(load_runs(store, EXPERIMENT)) < 2:
        time.sleep(0.05)
    (doomed, _) = load_runs(store, EXPERIMENT)
    MlflowClient(store).delete_run(doomed["run_id"])
    other = "b" if doomed["tags.metaopt.trial_uid"] == "a" else "a"
    tracker.log(doomed["tags.metaopt.trial_uid"], [point(1)])
    tracker.log(other, [point(1)])
    assert tracker.close(WAIT_S) == 0
    (left,) = load_runs(store, EXPERIMENT)
    assert load_curve(store, left["run_id"], "digits/fid") == [(0, 0.5), (1, 0.5)]
    assert "refuses Log" in caplog.text


def test_curves_are_thinned_to_what_the_ui_draws_across_restarts(store, tmp_path):
    for begin in range(0, 12_000, 4_000):
        deliver(store, tmp_path, log("a", *map(point, range(begin, begin + 4_000))))
    deliver(store, tmp_path, end("a", **{"digits/fid": 9.0}))
    (run,) = load_runs(store, EXPERIMENT)
    curve = load_curve(store, run["run_id"], "digits/fid")
    assert 1_500 < len(curve) <= MAX_POINTS
    assert curve[-1] == (11_999, 9.0)
    assert len(rows(tmp_path, "select * from metrics")) == len(curve)


def test_three_hundred_trials_are_all_there(store, tmp_path):
    tracker = open_tracker(store, EXPERIMENT, tmp_path)
    start_study(tracker)
    for n in range(300):
        start(f"t{n}", lr=n)(tracker)
        tracker.log(f"t{n}", [point(step, float(n)) for step in range(5)])
        end(f"t{n}", score=float(n))(tracker)
    assert tracker.close(WAIT_S) == 0
    runs = load_runs(store, EXPERIMENT)
    assert sorted(run["metrics.score"] for run in runs) == [float(n) for n in range(300)]
    assert {run["status"] for run in runs} == {"FINISHED"}
    assert len(rows(tmp_path, "select * from metrics")) == 300 * 6


def test_trials_are_not_searched_for_one_by_one(store, tmp_path, monkeypatch):
    searches = []
    search = MlflowClient.search_runs

    def counting(self, *args, **options):
        searches.append(args)
        return search(self, *args, **options)

    monkeypatch.setattr(MlflowClient, "search_runs", counting)
    monkeypatch.setattr("metaopt.tracking.mlflow_store._PAGE", 3)
    deliver(store, tmp_path, start_study, *[start(f"t{n}") for n in range(10)])
    assert len(searches) == 2  # for the parent, and for its trials
    searches.clear()
    deliver(store, tmp_path, start_study, *[call for n in range(20) for call in (start(f"t{n}"), end(f"t{n}"))])
    assert len(searches) == 1 + math.ceil((10 + 1) / 3)
    runs = load_runs(store, EXPERIMENT)
    assert sorted(run["name"] for run in runs) == sorted(f"trial t{n}" for n in range(20))


def test_reading_pages_through_many_runs(store, tmp_path, monkeypatch):
    monkeypatch.setattr("metaopt.tracking.read._PAGE", 2)
    deliver(store, tmp_path, start_study, *[start(f"t{n}") for n in range(5)])
    assert [run["name"] for run in load_runs(store, EXPERIMENT)] == [f"trial t{n}" for n in range(5)]


def test_single_runs_are_found_without_reading_all(store, tmp_path):
    deliver(store, tmp_path, start_study, *[start(f"t{n}") for n in range(5)])
    ids = {run["tags.metaopt.trial_uid"]: run["run_id"] for run in load_runs(store, EXPERIMENT)}
    assert find_runs(store, EXPERIMENT, ["t3", "t1"]) == {"t3": ids["t3"], "t1": ids["t1"]}
    assert find_runs(store, EXPERIMENT, ["t9"]) == {}
    with pytest.raises(ConfigError, match="must hold the experiment 'other'"):
        find_runs(store, "other", ["t1"])


def test_reading_what_is_not_there_says_so(store, tmp_path):
    with pytest.raises(ConfigError, match=r"must exist to be read, but there is no file .*nowhere\.db"):
        load_runs(f"sqlite:///{tmp_path}/nowhere.db", EXPERIMENT)
    assert not (tmp_path / "nowhere.db").exists()
    with pytest.raises(ConfigError, match=r"must hold the experiment 'other', but it holds \['Default'\]"):
        load_runs(store, "other")
    with pytest.raises(ConfigError, match="id=abc not found"):
        load_curve(store, "abc", "fid")


FRESH = """
import sys
import time
from pathlib import Path
from metaopt.tracking import Point, open_tracker
folder = Path(sys.argv[1])
tracker = open_tracker(f"sqlite:///{folder}/a b/mlflow.db", "e", folder / sys.argv[2])
tracker.log(sys.argv[2], [Point(key="fid", value=0.5, step=0, timestamp_ms=1)])
print(tracker.close(120))
"""


def test_several_searches_may_start_on_one_fresh_store_and_stay_quiet(tmp_path):
    command = [sys.executable, "-c", FRESH, str(tmp_path)]
    children = [
        subprocess.Popen([*command, uid], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for uid in ("a", "b", "c")
    ]
    assert [child.communicate(timeout=600) for child in children] == [("0\n", "")] * 3
    runs = load_runs(f"sqlite:///{tmp_path}/a b/mlflow.db", "e")
    assert {run["tags.metaopt.trial_uid"] for run in runs} == {"a", "b", "c"}
    assert [path.name for path in (tmp_path / "a b").iterdir()] == ["mlflow.db"]


def test_importing_the_room_loads_nothing_heavy():
    code = "import sys, metaopt.tracking; print({'mlflow', 'pandas', 'torch', 'sqlalchemy'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
