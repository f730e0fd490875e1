"""The wait of a Dagster step for an external run."""
