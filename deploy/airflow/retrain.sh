#!/bin/sh
# The same flow without Airflow: retrain.sh '{"dag_run_id": "retrain-1", "model": "credit", "export_url": "http://…"}'
# The environment is that of retraining.py. It stops at the first step that fails, and can be run again.
set -eu
steps=$(dirname "$0")/retraining.py
for step in fetch train bundle shadow compare activate; do
    echo "== $step"
    "${PYTHON:-python3}" "$steps" "$step" "$1"
done
