"""A DAG for Airflow 3 that answers the request of ``alerts.retrain``; retraining.py lies beside it.

Its id is the end of the webhook's address: /api/v2/dags/plumbline_retrain/dagRuns (docs/retraining.md has the body).
"""

from __future__ import annotations

from typing import Any

import pendulum
import retraining
from airflow.sdk import dag, get_current_context, task


def conf() -> dict[str, Any]:
    """What Plumbline sent, with the id of the run: the key of the request."""
    run = get_current_context()["dag_run"]
    return {**run.conf, "dag_run_id": run.run_id}


@dag(
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": pendulum.duration(minutes=5)},
    tags=["plumbline"],
)
def plumbline_retrain() -> None:
    """One task for each step; a shadow that is not better ends the run without an activation."""

    @task
    def fetch() -> None:
        retraining.fetch(conf())

    @task
    def train() -> None:
        retraining.train(conf())

    @task
    def bundle() -> None:
        retraining.bundle(conf())

    @task
    def shadow() -> None:
        retraining.shadow(conf())

    @task.short_circuit
    def compare() -> bool:
        return retraining.compare(conf())

    @task
    def activate() -> None:
        retraining.activate(conf())

    fetch() >> train() >> bundle() >> shadow() >> compare() >> activate()


plumbline_retrain()
