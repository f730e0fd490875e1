"""The tests on every Python, Airflow, Dagster, httpx and pydantic: docs/project/test_matrix.md is made of them."""
