"""Completion in shells: what each offers after what has been typed, tried in the shell itself where there is one."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runops.cli import main
from runops.cli.arguments import SHELLS
from runops.cli.examples import examples
from runops.core import PROVIDERS

COMMANDS = {name.partition(" ")[0] for name in examples()}

BASH = r"""
eval "$(runops completion bash)"
complete -p runops >/dev/null || exit 9
COMP_WORDS=({words})
COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_shtab_runops
printf '%s\n' "${{COMPREPLY[@]}}"
"""
FISH = "runops completion fish | source; complete --do-complete {line}"
# What is typed is echoed, so that the marks in it are not written as they are printed.
ZSH = r"""
zmodload zsh/zpty
zpty shell zsh -f -i
read_until() {{ local got; while zpty -r shell got; do [[ $got == *$1* ]] && return; done; }}
zpty -w shell 'PS1=; setopt nomonitor; autoload -Uz compinit; compinit -D -u; eval "$(runops completion zsh)"'
zpty -w shell 'capture() {{ compadd() {{
    [[ $* == *-O* || $* == *-A* || $* == *-D* ]] && {{ builtin compadd "$@"; return; }}
    local -a found; builtin compadd -A found "$@"; print -l -r -- "wo""rd:"${{^found}}; builtin compadd "$@"
  }}; _main_complete; print en""d:; exit }}'
zpty -w shell 'zle -C capture complete-word capture; bindkey "^I" capture; print rea""dy:'
read_until 'ready:'
zpty -n -w shell {line}$'\t'
while zpty -r shell got; do print -r -- "$got"; [[ $got == *end:* ]] && break; done
"""


def offered(shell: str, words: list[str], folder: Path) -> set[str]:
    """What a shell offers for the last word, in an empty folder and without anybody's settings."""
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"there is no {shell} in PATH")
    environment = {
        "HOME": str(folder),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TERM": "dumb",
    }
    line = shlex.quote(" ".join(words))
    script, options = {
        "bash": (BASH.format(words=" ".join(shlex.quote(word) for word in words)), ["--norc", "--noprofile"]),
        "fish": (FISH.format(line=line), ["--no-config"]),
        "zsh": (ZSH.format(line=line), ["-f"]),
    }[shell]
    done = subprocess.run(
        [program, *options, "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    if shell == "zsh":
        return set(re.findall(r"word:(\S+)", done.stdout))
    return {text.partition("\t")[0].strip() for text in done.stdout.splitlines() if text.strip()}


@pytest.mark.long
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
class TestInTheShell:
    def test_all_commands(self, shell: str, tmp_path: Path) -> None:
        assert offered(shell, ["runops", ""], tmp_path) == COMMANDS

    def test_a_command_that_has_been_begun(self, shell: str, tmp_path: Path) -> None:
        assert offered(shell, ["runops", "wa"], tmp_path) == {"watch"}

    def test_all_providers_after_a_command(self, shell: str, tmp_path: Path) -> None:
        assert offered(shell, ["runops", "get", ""], tmp_path) == set(PROVIDERS)

    def test_to_submit_those_that_take_one(self, shell: str, tmp_path: Path) -> None:
        takers = {name for name, provider in PROVIDERS.items() if provider.submit is not None}
        assert offered(shell, ["runops", "submit", ""], tmp_path) == takers

    def test_a_provider_s_own_options(self, shell: str, tmp_path: Path) -> None:
        assert offered(shell, ["runops", "submit", "nexio", "--eng"], tmp_path) == {"--engine-slug", "--engine-version"}

    def test_verdicts_and_outcomes_as_values(self, shell: str, tmp_path: Path) -> None:
        there = ["runops", "get", "nyx", "run_1", "--on-unmet", "w"]
        assert offered(shell, there, tmp_path) == {"warn"}
        there[-2:] = ["--on-outcome", "degraded"]
        assert {text.replace("\\", "") for text in offered(shell, there, tmp_path)} >= {
            "degraded=warn",
            "degraded=skip",
        }

    def test_options_of_a_command_below_a_command(self, shell: str, tmp_path: Path) -> None:
        assert offered(shell, ["runops", "orphans", "dagster", "--dag"], tmp_path) == {"--dagster-home"}


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_prints_the_file_of_the_shell_and_loads_no_core(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS)
    code = "import sys; from runops.cli import main; main(['completion', 'bash']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"runops.core", "httpx", "pydantic"} & set(done.stderr.split())


def test_another_shell_is_a_usage_error_that_names_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "ksh"]) == 2
    told = capsys.readouterr().err
    assert all(shell in told for shell in SHELLS)


@pytest.mark.skipif(shutil.which("tcsh") is None, reason="there is no tcsh in PATH")
def test_tcsh_takes_its_file(tmp_path: Path) -> None:
    main_folder = Path(sys.executable).parent
    script = f"set path = ({main_folder} $path); runops completion tcsh > r.tcsh; source r.tcsh; complete runops"
    done = subprocess.run(
        ["tcsh", "-f", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert "orphans" in done.stdout
    assert not done.stderr
