#!/usr/bin/env bash
# What the mlflow container runs. Listens on 0.0.0.0 inside it; compose.yaml says what of that is published.
# Secrets go from files into the environment, never into arguments, which `ps` shows.
set -euo pipefail
secret() { cat "${SECRETS_DIR:-/run/secrets}/$1"; }

MLFLOW_AUTH_ADMIN_PASSWORD=$(secret mlflow_admin_password)
MLFLOW_FLASK_SERVER_SECRET_KEY=$(secret mlflow_session_key)
PGPASSWORD=$(secret postgres_password)
AWS_ACCESS_KEY_ID=$(secret store_access_key)
AWS_SECRET_ACCESS_KEY=$(secret store_secret_key)
export MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY PGPASSWORD AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY

# Users lie in the database of the runs, so that one backup has both
export MLFLOW_AUTH_CONFIG_PATH="$HOME/auth.ini"
printf '[mlflow]\ndefault_permission = READ\ndatabase_uri = %s\nadmin_username = admin\n' \
    "$BACKEND_STORE_URI" > "$MLFLOW_AUTH_CONFIG_PATH"

python - <<'PYTHON'
import os
import boto3
store = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
if not any(bucket["Name"] == "mlflow" for bucket in store.list_buckets()["Buckets"]):
    store.create_bucket(Bucket="mlflow")
PYTHON

echo "mlflow: published at $PUBLISHED, answers requests for $ALLOWED_HOSTS, asks for a password, no TLS"
exec mlflow server --host "${HOST:-0.0.0.0}" --port "$PORT" --app-name basic-auth --allowed-hosts "$ALLOWED_HOSTS" \
    --backend-store-uri "$BACKEND_STORE_URI" --artifacts-destination s3://mlflow
