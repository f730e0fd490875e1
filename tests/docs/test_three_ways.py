"""The tutorials are followed word for word by `make three-ways`; here, what that script makes of a page."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from scripts.documentation.blocks import Block
from scripts.three_ways import MOST_COMMANDS, ROOT, WAYS, Way, judged, script_of

BLOCKS = [
    Block("page.md", 3, "bash", "export WORD=hello\n"),
    Block("page.md", 8, "python", '# src/say.py\nimport os\nprint(os.environ["WORD"])\n'),
    Block("page.md", 14, "bash", "# it speaks\npython3 \\\n  src/say.py\n", prints="hello"),
]


class Short(Way):
    """The page above."""

    @property
    def blocks(self) -> list[Block]:
        return BLOCKS


WAY = Short("say a word", "page.md")


def followed(tmp_path: Path, *blocks: Block) -> tuple[str, int]:
    script = script_of(blocks or BLOCKS, tmp_path)
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    return done.stdout, done.returncode


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_each_way_needs_fewer_than_ten_commands(way: Way) -> None:
    assert (ROOT / way.page).is_file()
    assert 0 < way.commands < MOST_COMMANDS
    assert any(block.prints for block in way.blocks), "no block says what its result looks like"


def test_blocks_are_followed_in_their_order_by_one_shell(tmp_path: Path) -> None:
    log, code = followed(tmp_path)
    assert (tmp_path / "src" / "say.py").read_text() == BLOCKS[1].text
    assert judged(WAY, log, code)[0] == ""
    assert WAY.commands == 2


def test_a_command_that_fails_is_named_by_its_block(tmp_path: Path) -> None:
    log, code = followed(tmp_path, BLOCKS[0], BLOCKS[2])
    assert code != 0
    assert "page.md:8 ended with code" in judged(WAY, log, code)[0]


def test_a_result_that_is_not_what_the_page_says_is_named(tmp_path: Path) -> None:
    log, code = followed(tmp_path)
    assert judged(WAY, log.replace("hello\n", "nothing\n"), code)[0] == "page.md:14 does not print 'hello'"
