"""Passwords and keys of whoever searches: in no file of a study, in no store, on no screen."""

import os
from pathlib import Path

import pytest
from mlflow_server import Server
from studies import metaopt, tiny_study, write_study

from metaopt.errors import ConfigError
from metaopt.search.package import pack
from metaopt.search.study import load_study
from metaopt.tracking.redact import redacted

SECRET = "s3cr3t-0f-mine"


def _holding(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]


@pytest.mark.parametrize(
    "uri",
    [
        f"http://me:{SECRET}@127.0.0.1:5000",
        f"postgresql://me@127.0.0.1/db?sslmode=require&password={SECRET}",
        f"https://127.0.0.1:5000/?Auth_Token={SECRET}",
    ],
)
def test_a_study_holds_no_password(tmp_path: Path, uri: str) -> None:
    assert SECRET not in redacted(f"cannot reach {uri} now")
    file = write_study(tmp_path, tiny_study(tracking={"uri": uri}))
    for read in (
        lambda: load_study(str(file)),
        lambda: load_study(str(write_study(tmp_path, tiny_study(), "b.yaml")), [f"tracking.uri={uri}"]),
        lambda: pack(str(file), [], None, tmp_path / "package"),
    ):
        with pytest.raises(ConfigError, match=r"`tracking\.uri`: must hold no password") as error:
            read()
        assert "which MLFLOW_TRACKING_URI or MLFLOW_TRACKING_PASSWORD may" in str(error.value)
    assert not (tmp_path / "package").exists()
    assert load_study(str(file), ["tracking.uri=http://me@127.0.0.1:5000"]).spec.tracking.uri


def test_the_environment_stays_where_it_is(tmp_path: Path) -> None:
    server, out = Server(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts"), tmp_path / "out"
    uri = server.uri.replace("//", f"//me:{SECRET}@")
    secrets = dict.fromkeys(("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "HF_TOKEN"), SECRET)
    environment = os.environ | secrets | {"MLFLOW_TRACKING_URI": uri}
    study = write_study(tmp_path, tiny_study(search={"trials": 2, "seed": 1, "sampler": "random", "workers": 1}))
    waiting = metaopt("search", study, "--out", out, env=environment)
    assert waiting.returncode == 0, waiting.stdout + waiting.stderr
    assert "did not answer" in waiting.stdout.replace("\n", " ")
    in_vain = metaopt("sync", "--study", out, "--wait-s", "1", env=environment)
    assert in_vain.returncode == 1, in_vain.stderr
    server.start()
    try:
        done = metaopt("sync", "--study", out, env=environment)
        assert done.returncode == 0, done.stderr
    finally:
        server.kill()
    for said in (waiting, in_vain, done):
        assert SECRET not in said.stdout + said.stderr
    assert _holding(tmp_path) == [out / ".tracking_uri"]
    assert (out / ".tracking_uri").stat().st_mode & 0o777 == 0o600
