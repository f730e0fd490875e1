"""Every block of the documentation runs; docs/project/documentation.md says what that means for each kind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib

import pytest
import yaml

from scripts.documentation.blocks import PAGES, Block, blocks_of
from tests.docs.commands import check_commands
from tests.docs.world import PATIENCE, World, patience

MOST_NOT_RUN = 3
"""How many blocks may say that they cannot run."""
COMPONENT = "runops.dagster.component.RunopsComponent"
_AIRFLOW = re.compile(r"^\s*(?:from|import) (?:airflow|runops\.airflow)\b", re.MULTILINE)
_TESTS = re.compile(r"^def test_", re.MULTILINE)
"""They are run in a process of their own, which loads a host anew, and may be long at it."""
LANGUAGES = {"python", "yaml", "toml", "json", "bash", "text", "console", "mermaid"}

pytestmark = [
    # Dagster's own code warns while it reads a file.
    pytest.mark.filterwarnings(
        "ignore::dagster.BetaWarning",
        "ignore::dagster.PreviewWarning",
        "ignore::pydantic.warnings.PydanticDeprecatedSince20",
    ),
]
WITH_BLOCKS = [page for page in PAGES if blocks_of(page)]


def python(block: Block, world: World) -> None:
    """Execute a block, and use what it made."""
    before = dict(world.names)
    code = compile(block.padded, block.page, "exec", dont_inherit=True)
    if _AIRFLOW.search(block.text):
        world.names["__airflow__"] = True
    if "__airflow__" in world.names:
        from tests.docs import airflow_blocks

        airflow_blocks.hurry(world.patch)
        with airflow_blocks.collected(block) as dags:
            exec(code, world.names)
        if dags:
            airflow_blocks.run_dags(dags, block, world)
    else:
        exec(code, world.names)
    made = [value for name, value in world.names.items() if before.get(name) is not value]
    if any(type(value).__module__.startswith("dagster") for value in made):
        from tests.docs import dagster_blocks

        for definitions in dagster_blocks.definitions_of(made):
            dagster_blocks.use(definitions, block, world)


def run_its_tests(block: Block, world: World) -> None:
    """Give a block to pytest, as the file that it is."""
    file = world.write(block, block.path or f"test_{block.name}.py")
    # A process of its own: a host reads its settings once, and the reader's are not those of these tests.
    foreign = ("AIRFLOW_HOME", "AIRFLOW__", "PYTEST")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file.relative_to(world.folder))]
    if not (world.folder / "pyproject.toml").is_file():
        command += ["--rootdir", str(world.folder), "-c", os.devnull]
    done = subprocess.run(command, cwd=world.folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{block.where}: its tests fail\n{done.stdout}{done.stderr}"


def run(block: Block, world: World) -> None:
    """Do with a block what its kind and its comment say."""
    if block.path and block.language != "python":
        world.write(block, block.path)
    if block.language == "python":
        if _TESTS.search(block.text):
            run_its_tests(block, world)
            return
        if block.path:
            world.write(block, block.path)
        python(block, world)
    elif block.language == "yaml":
        documents = list(yaml.safe_load_all(block.text))
        if any(isinstance(each, dict) and each.get("type") == COMPONENT for each in documents):
            from tests.docs import dagster_blocks

            dagster_blocks.use_file(block, world)
    elif block.language == "toml":
        tomllib.loads(block.text)
    elif block.language == "json":
        json.loads(block.text)
    elif block.language == "bash":
        check_commands(block.text, world.patch)


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: page.removeprefix("docs/").removesuffix(".md"))
def test_the_blocks_of_a_page_run(page: str, world: World) -> None:
    for block in blocks_of(page):
        if block.reason is not None:
            if block.language == "python":
                compile(block.padded, page, "exec")
            continue
        expected = block.options.get("raises")
        try:
            world.prepare(block)
            with patience(block, 300 if _TESTS.search(block.text) else PATIENCE):
                run(block, world)
        except BaseException as error:
            if expected is not None and type(error).__name__ == expected:
                continue
            error.add_note(f"in the block at {block.where}")
            raise
        assert expected is None, f"{block.where} was to raise {expected}"


def test_every_block_says_what_it_is_written_in() -> None:
    unknown = [f"{block.where}: {block.language}" for page in PAGES for block in blocks_of(page)
               if block.language not in LANGUAGES]  # fmt: skip
    assert not unknown


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    left_out = [f"{block.where}: {block.reason}" for page in PAGES for block in blocks_of(page) if block.reason]
    assert len(left_out) <= MOST_NOT_RUN, "\n".join(left_out)
