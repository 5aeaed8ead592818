#!/usr/bin/env bash
# Installs metaopt of this checkout, with the versions of versions.env, into .venv of this checkout.
# Run the same file on every machine of a cluster, and on the one that starts searches: then they agree.
set -euo pipefail
cluster=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$cluster")
set -a
. "$cluster/versions.env"
set +a

export PATH="$HOME/.local/bin:$PATH"
# uv, because it brings a Python of exactly the version that is asked for, whatever the machine has
command -v uv >/dev/null || curl -LsSf "https://astral.sh/uv/$UV_VERSION/install.sh" | env UV_NO_MODIFY_PATH=1 sh

uv venv --quiet --allow-existing --python "$PYTHON_VERSION" "$root/.venv"
uv pip install --python "$root/.venv/bin/python" \
    "ray[default,tune]==$RAY_VERSION" "torch==$TORCH_VERSION" "torchvision==$TORCHVISION_VERSION" \
    "optuna==$OPTUNA_VERSION" "mlflow==$MLFLOW_VERSION" "$root" "$@"
