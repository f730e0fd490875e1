"""Which templates of a sensor with ``start_from_trigger`` are tried, and where each must begin. Data only."""

from __future__ import annotations

RUN = "{{ dag_run.conf['run'] }}"

IN_TRIGGERER: dict[str, str] = {
    "conf": RUN,
    "params": "{{ params.run }}",
    "variable": "{{ var.value.templates_run }}",
    "names": RUN + "{{ run_id[:0] }}{{ ti.task_id[:0] }}{{ task_instance_key_str[:0] }}",
    "macros": RUN + "{{ macros.ds_add('2026-01-01', 1)[:0] }}",
    "filters": "{% set run = dag_run['conf'].run | trim %}{{ run | default('none') }}",
}
"""Templates of ``run_id`` that a triggerer renders, by task."""

ON_WORKER: dict[str, tuple[str, str]] = {
    "xcom_pull": ("{{ ti.xcom_pull(task_ids='source') }}", "run_id: ti.xcom_pull needs a worker"),
    "previous": (RUN + "{{ '' if prev_start_date_success else '' }}", "run_id: prev_start_date_success needs a worker"),
    "macro": ("{{ same(dag_run.conf['run']) }}", "run_id: same needs a worker"),
    "filter": ("{{ dag_run.conf['run'] | twisted }}", "No filter named 'twisted'"),
    "param": (RUN, "the param number is the task's own and has a schema"),
}
"""Templates that need a worker, and what the log must say."""

NEVER = "{{ params.nobody_gave_this }}"
"""A template that no place can render."""
