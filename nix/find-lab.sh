# Runs `lab` of the checkout that the current folder belongs to.
root=$PWD
until [ -x "$root/lab" ] && [ -d "$root/src/airflow_celery_lab" ]; do
  if [ -z "$root" ]; then
    echo "lab: neither $PWD nor a folder above it is a checkout of Airflow Celery Lab; change into one." >&2
    exit 2
  fi
  root=${root%/*}
done
export LAB_COMMAND="${LAB_COMMAND:-lab}"
exec "$root/lab" "$@"
