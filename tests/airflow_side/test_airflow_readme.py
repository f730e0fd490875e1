"""The README's Airflow examples load as they stand."""

from __future__ import annotations

from typing import Any


def test_the_readme_s_airflow_examples_load(readme_examples: list[str]) -> None:
    examples = [example for example in readme_examples if "runops.airflow" in example]
    assert len(examples) == 2
    for example in examples:
        exec(compile(example, "README.md", "exec"), dict[str, Any](__name__="readme"))
