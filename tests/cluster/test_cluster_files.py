"""The files of cluster/: the schemas of what reads them, one list of versions, and the rules on who may connect."""

import json
import os
import re
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
import yaml
from cluster_files import CLUSTER, COMPOSE, ROOT, code, comments, documents, kuberay_schema, versions
from ray.autoscaler._private.util import prepare_config, validate_config

import metaopt

RAY_UP = ("ray_up/onprem.yaml", "ray_up/aws.yaml")
KUBERAY = {"kuberay/raycluster.yaml": "RayCluster", "kuberay/rayjob.yaml": "RayJob"}
STARTS_RAY = (
    "local.py", *RAY_UP, *KUBERAY, "slurm/metaopt.sbatch"
)  # fmt: skip
SHELL = ("install.sh", "activate.sh", "slurm/metaopt.sbatch", "docker/mlflow_server.sh", "docker/make_secrets.sh")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _ray_spec(path: str) -> Any:
    document = next(document for document in documents(path) if document["kind"] == KUBERAY[path])
    return document["spec"] if KUBERAY[path] == "RayCluster" else document["spec"]["rayClusterSpec"]


def test_versions_satisfy_pyproject() -> None:
    pinned = versions()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert pinned["METAOPT_VERSION"] == project["version"] == metaopt.__version__
    assert _numbers(pinned["PYTHON_VERSION"]) >= _numbers(project["requires-python"])
    least = dict(re.findall(r"(?m)^([a-z]+)(?:\[.*])?>=(\S+)", "\n".join(project["dependencies"])))
    for package in ("torch", "torchvision", "ray", "optuna", "mlflow"):
        assert _numbers(pinned[f"{package.upper()}_VERSION"]) >= _numbers(least[package]), package


def test_versions_are_written_once_and_all_used() -> None:
    pinned = versions()
    used: set[str] = set()
    for path in ("install.sh", "docker/Dockerfile", "docker/compose.yaml", "ray_up/aws.yaml"):
        text = code(CLUSTER / path)
        names = set(re.findall(r"\b[A-Z0-9]+_VERSION\b", text))
        assert names <= set(pinned), path
        assert not re.search(r"[=:]\s*\"?\d+\.\d+\.\d+", re.sub(r"\d+(\.\d+){3}", "", text)), f"a version in {path}"
        used |= names
    readme = (CLUSTER / "README.md").read_text()
    assert set(pinned) - used <= {"METAOPT_VERSION", "KUBERAY_VERSION"}  # read below, and by the README's commands
    assert "$KUBERAY_VERSION" in readme


@pytest.mark.parametrize("path", KUBERAY)
def test_manifests_repeat_the_versions(path: str) -> None:
    pinned = versions()
    spec = _ray_spec(path)
    assert spec["rayVersion"] == pinned["RAY_VERSION"]
    images = re.findall(r"image: (\S+)", (CLUSTER / path).read_text())
    assert len(images) >= 2
    assert set(images) == {f"metaopt:{pinned['METAOPT_VERSION']}-ray{pinned['RAY_VERSION']}"}


@pytest.mark.parametrize("path", RAY_UP)
def test_ray_up_files_are_what_ray_takes(path: str) -> None:
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    (config,) = documents(path)
    jsonschema.validate(config, schema)
    for wrong in ({"setup_comands": []}, {"max_workers": "four"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(config | wrong, schema)
    for mounted in config["file_mounts"].values():
        assert mounted.startswith("~") or (ROOT / mounted).exists(), mounted
    if config["provider"]["type"] == "local":  # Ray's checks for AWS need boto3
        validate_config(prepare_config(config))
    else:
        types = config["available_node_types"]
        assert config["head_node_type"] in types
        assert sum(kind.get("max_workers", 0) for kind in types.values()) == config["max_workers"]


@pytest.mark.parametrize("path", KUBERAY)
def test_kuberay_manifests_are_what_the_operator_takes(path: str) -> None:
    schema = kuberay_schema(KUBERAY[path])
    (document,) = (document for document in documents(path) if document["kind"] == KUBERAY[path])
    assert document["apiVersion"] == "ray.io/v1"
    assert set(document) == {"apiVersion", "kind", "metadata", "spec"}
    assert set(document["metadata"]) == {"name"}
    jsonschema.validate(document["spec"], schema)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"replica": 3}, "'replica' was unexpected"),
        ({"replicas": "3"}, "'3' is not of type 'integer'"),
        ({"groupName": None}, "None is not of type 'string'"),
        ({"rayStartParams": {"num-cpus": 0}}, "0 is not of type 'string'"),
    ],
)
def test_kuberay_schema_refuses_mistakes(change: dict[str, Any], says: str) -> None:
    spec = _ray_spec("kuberay/raycluster.yaml")
    spec["workerGroupSpecs"][0] |= change
    with pytest.raises(jsonschema.ValidationError, match=says):
        jsonschema.validate(spec, kuberay_schema("RayCluster"))


def test_kuberay_schema_refuses_mistakes_in_pods() -> None:
    schema = kuberay_schema("RayCluster")
    spec = _ray_spec("kuberay/raycluster.yaml")
    container = spec["headGroupSpec"]["template"]["spec"]["containers"][0]
    del container["name"]
    with pytest.raises(jsonschema.ValidationError, match="'name' is a required property"):
        jsonschema.validate(spec, schema)
    container |= {"name": "ray-head", "comand": ["true"]}
    with pytest.raises(jsonschema.ValidationError, match="'comand' was unexpected"):
        jsonschema.validate(spec, schema)


def test_the_jobs_folder_lies_on_a_volume_that_stays() -> None:
    claim, job = documents("kuberay/rayjob.yaml")
    assert claim["kind"] == "PersistentVolumeClaim"
    assert claim["spec"]["resources"]["requests"]["storage"]
    pod = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    (volume,) = pod["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    (mount,) = pod["containers"][0]["volumeMounts"]
    assert mount["name"] == volume["name"]
    assert f"--out {mount['mountPath']}/" in job["spec"]["entrypoint"]
    assert (ROOT / "search_spaces" / f"{job['spec']['entrypoint'].split()[2]}.yaml").exists()


def test_token_authentication_is_on_wherever_ray_starts() -> None:
    assert "export RAY_AUTH_MODE=token" in code(CLUSTER / "activate.sh")
    assert 'os.environ["RAY_AUTH_MODE"] = "token"' in code(CLUSTER / "local.py")
    assert "RAY_AUTH_MODE=token" in code(CLUSTER / "docker" / "Dockerfile")
    for path in RAY_UP:
        (config,) = documents(path)
        assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
        starts = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
        assert any("ray start --head" in start for start in starts)
        assert all(start.startswith(". ~/metaopt/cluster/activate.sh; ") for start in starts)
    for path in KUBERAY:
        assert _ray_spec(path)["authOptions"] == {"mode": "token"}
    assert '. "$SLURM_SUBMIT_DIR/cluster/activate.sh"' in code(CLUSTER / "slurm" / "metaopt.sbatch")
    for file in CLUSTER.rglob("*"):
        if file.is_file() and file.suffix != ".pyc":
            assert "RAY_AUTH_MODE=disabled" not in file.read_text(), file


@pytest.mark.parametrize("path", [*STARTS_RAY, "docker/Dockerfile", "docker/compose.yaml", "docker/mlflow_server.sh"])
def test_every_file_says_where_it_listens(path: str) -> None:
    file = CLUSTER / path
    assert re.search(r"\b[Ll]istens", comments(file)), path
    if "0.0.0.0" in code(file):
        assert "0.0.0.0" in comments(file), f"{path} opens every interface and does not say so"
    assert "--dashboard-host=0.0.0.0" not in code(file)


@pytest.mark.parametrize("path", SHELL)
def test_shell_files_parse(path: str) -> None:
    subprocess.run(["bash", "-n", CLUSTER / path], check=True)


def test_compose_file_is_what_compose_takes() -> None:
    schema = json.loads((Path(__file__).parent / "compose_spec.json").read_text())
    compose = yaml.safe_load(COMPOSE.read_text())
    jsonschema.validate(compose, schema)
    compose["services"]["mlflow"]["healthchek"] = {}
    with pytest.raises(jsonschema.ValidationError, match="'healthchek' does not match"):
        jsonschema.validate(compose, schema)


def test_compose_services_are_healthy_before_they_are_used_and_keep_their_data() -> None:
    compose = yaml.safe_load(COMPOSE.read_text())
    services = compose["services"]
    assert set(services) == {"mlflow", "postgres", "store"}
    for name, service in services.items():
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert service["restart"] == "unless-stopped"
    assert {name: need["condition"] for name, need in services["mlflow"]["depends_on"].items()} == {
        "postgres": "service_healthy", "store": "service_healthy",
    }  # fmt: skip
    kept = [volume.partition(":")[0] for name in ("postgres", "store") for volume in services[name]["volumes"]]
    assert set(kept) == set(compose["volumes"])


def test_compose_publishes_mlflow_alone_and_on_loopback() -> None:
    compose = yaml.safe_load(COMPOSE.read_text())
    services = compose["services"]
    assert services["mlflow"]["ports"] == ["${MLFLOW_ADDRESS:-127.0.0.1}:5000:5000"]
    for name in ("postgres", "store"):
        assert "ports" not in services[name]
        assert services[name]["networks"] == ["inside"]
    assert compose["networks"]["inside"] == {"internal": True}


def test_compose_takes_secrets_from_files_that_git_ignores() -> None:
    compose = yaml.safe_load(COMPOSE.read_text())
    for name, secret in compose["secrets"].items():
        assert secret == {"file": f"secrets/{name}"}
    assert "secrets/" in (CLUSTER / "docker" / ".gitignore").read_text().split()
    for service in compose["services"].values():
        assert set(service["secrets"]) <= set(compose["secrets"])
        for variable, value in service["environment"].items():
            if re.search(r"PASSWORD|SECRET|KEY|TOKEN", variable):
                assert variable.endswith("_FILE"), f"{variable} is a literal"
                assert value.removeprefix("/run/secrets/") in service["secrets"]
            assert not re.search(r"://[^/@]+:[^/@]+@", value), f"a password in {variable}"
    read = set(re.findall(r"secret (\w+)\)", (CLUSTER / "docker" / "mlflow_server.sh").read_text()))
    assert read == set(compose["services"]["mlflow"]["secrets"])


def test_secrets_are_made_once_and_lie_in_a_folder_of_their_own(tmp_path: Path) -> None:
    script = Path(shutil.copy(CLUSTER / "docker" / "make_secrets.sh", tmp_path))
    subprocess.run(["bash", script], check=True)
    folder = tmp_path / "secrets"
    first = {file.name: file.read_text() for file in folder.iterdir()}
    assert set(first) == set(yaml.safe_load(COMPOSE.read_text())["secrets"])
    assert all(re.fullmatch("[0-9a-f]{40}", secret) for secret in first.values())
    assert len(set(first.values())) == len(first)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    subprocess.run(["bash", script], check=True)
    assert {file.name: file.read_text() for file in folder.iterdir()} == first


def test_images_are_built_from_what_is_there() -> None:
    dockerfile = code(CLUSTER / "docker" / "Dockerfile")
    let_through = (CLUSTER / "docker" / "Dockerfile.dockerignore").read_text().split()
    for line in re.findall(r"^COPY (.+)$", dockerfile, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in let_through, source
    stages = re.findall(r"^FROM \S+ AS (\w+)$", dockerfile, re.MULTILINE)
    assert stages == ["ray", "mlflow"]
    assert yaml.safe_load(COMPOSE.read_text())["services"]["mlflow"]["build"]["target"] in stages
    assert len(re.findall(r"^USER 1000$", dockerfile, re.MULTILINE)) == 2
    arguments = {name for line in re.findall(r"^ARG (.+)$", dockerfile, re.MULTILINE) for name in line.split()}
    assert arguments <= set(versions())
    for stage in re.split(r"(?m)^FROM ", dockerfile)[1:]:
        wanted = set(re.findall(r"\$\{(\w+)\}", stage.partition("\n")[2]))
        given = {name for line in re.findall(r"^ARG (.+)$", stage, re.MULTILINE) for name in line.split()}
        assert wanted == given


def test_readme_says_when_to_use_each_and_what_was_not_run() -> None:
    readme = (CLUSTER / "README.md").read_text()
    sections = re.split(r"(?m)^## ", readme)
    for title, file in (
        ("One machine", "local.py"), ("Machines by SSH", "onprem.yaml"), ("A cloud", "aws.yaml"),
        ("Kubernetes", "rayjob.yaml"), ("SLURM", "metaopt.sbatch"), ("Images", "Dockerfile"),
        ("MLflow", "compose.yaml"),
    ):  # fmt: skip
        (section,) = (section for section in sections if section.startswith(title))
        assert "**Use it" in section, title
        assert file in section
        if title != "One machine":
            assert "Not run here" in section, title
    for path in re.findall(r"(?<![\w/])cluster/[\w./]+\w", readme):
        if not path.startswith("cluster/docker/secrets"):
            assert (ROOT / path).exists(), path
    assert os.access(CLUSTER / "install.sh", os.X_OK)
