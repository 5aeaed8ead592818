"""The best schedule of a study in MLflow's model registry, where an alias leads to it."""

import hashlib
from pathlib import Path

from metaopt.tracking.read import reading

ALIAS = "best"
_FOLDER = "schedule"
_CONTENT = "metaopt.sha256"


def register_schedule(tracking_uri: str, run_id: str, file: Path, name: str) -> str:
    """Attach a schedule.json to its trial's run and make it the version of model `name` with the alias ``best``.

    The same file again makes no further version. Returns the URI to load it by: ``models:/NAME@best/FILE``.

    Raises:
        MetaoptError: the store does not answer.
    """
    with reading(tracking_uri) as client:
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        known = {version.tags.get(_CONTENT): version for version in client.search_model_versions(f"name = '{name}'")}
        if content not in known:
            if not client.search_registered_models(f"name = '{name}'"):
                client.create_registered_model(name, description="Schedules learned by metaopt: plain JSON, no code.")
            client.log_artifact(run_id, str(file), _FOLDER)
            source = f"{client.get_run(run_id).info.artifact_uri}/{_FOLDER}"
            known[content] = client.create_model_version(name, source, run_id=run_id, tags={_CONTENT: content})
        client.set_registered_model_alias(name, ALIAS, known[content].version)
    return f"models:/{name}@{ALIAS}/{file.name}"
