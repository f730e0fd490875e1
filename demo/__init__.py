"""The demo: every outcome of every provider, run for real in Airflow and in Dagster. Nothing here is part of runops."""
