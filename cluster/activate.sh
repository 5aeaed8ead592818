# To be sourced on every machine of a cluster: `. cluster/activate.sh`. metaopt and Ray of this checkout, asking for Ray's
# token, which lies in ~/.ray/auth_token unless RAY_AUTH_TOKEN_PATH says otherwise.
. "$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/activate"
export RAY_AUTH_MODE=token
