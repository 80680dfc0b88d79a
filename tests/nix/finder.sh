# finder.sh LAB: checks the program that `nix run` and `nix develop` start, in a folder of its own.
set -eu
lab=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

fail() {
  echo "finder: $1" >&2
  exit 1
}

checkout="$folder/a checkout"
mkdir -p "$checkout/src/airflow_celery_lab" "$checkout/some/where" "$folder/elsewhere"
cat >"$checkout/lab" <<'SCRIPT'
#!/bin/sh
echo "$0 in $PWD with $LAB_VENV:"
[ -x "$LAB_PYTHON" ] && [ -x "$LAB_POSTGRES_BIN/initdb" ] && [ -x "$LAB_REDIS_SERVER" ] && command -v uv >/dev/null
printf '<%s>' "$@"
SCRIPT
chmod +x "$checkout/lab"

for where in "$checkout" "$checkout/some/where"; do
  said=$(cd "$where" && "$lab" run "two words" '*')
  [ "$said" = "$checkout/lab in $where with .venv-nix:
<run><two words><*>" ] || fail "in $where it ran: $said"
done

cd "$folder/elsewhere"
status=0
said=$("$lab" status 2>&1) || status=$?
[ "$status" = 2 ] || fail "outside of a checkout its exit status is $status"
[ "$said" = "lab: neither $PWD nor a folder above it is a checkout of Airflow Celery Lab; change into one." ] ||
  fail "outside of a checkout it says: $said"
