#!/usr/bin/env bash
# Makes the passwords of compose.yaml, once, in cluster/docker/secrets (which git ignores).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
mkdir -p secrets
chmod 700 secrets  # nobody else gets in; the files are readable, as each container has a user of its own
for name in postgres_password mlflow_admin_password mlflow_session_key store_access_key store_secret_key; do
    [ -s "secrets/$name" ] || python3 -c 'import secrets; print(secrets.token_hex(20), end="")' > "secrets/$name"
    chmod 644 "secrets/$name"
done
