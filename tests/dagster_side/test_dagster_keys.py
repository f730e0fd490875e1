"""What stands in a field in place of a key, where a key is read from, and when it is read again."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from runops.core.model.secret import Secret
from runops.dagster import keys


def test_a_key_is_read_again_after_a_refresh_only_where_it_is_the_one_of_before() -> None:
    stored, refreshed = ["a"], list[str]()
    read = keys.RefreshedKey(lambda: Secret(stored[-1]), lambda: refreshed.append(stored[-1]))
    stored.append("b")
    assert read().reveal() == "b"
    assert refreshed == []
    # Now "b" is the one of before.
    assert read().reveal() == "b"
    assert refreshed == ["b"]
    stored.append("a")
    assert read().reveal() == "a"
    assert refreshed == ["b"]


def test_what_a_refresh_brings_is_the_key() -> None:
    stored = ["a"]
    read = keys.RefreshedKey(lambda: Secret(stored[-1]), lambda: stored.append("new"))
    assert read().reveal() == "new"


def test_a_file_is_read_anew_each_time_and_no_further_than_a_key_may_be_long(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("k" * 100_001)
    read = keys.FileKey(str(path))
    assert len(read().reveal()) == 100_000
    path.write_text("other\n")
    assert read().reveal() == "other"


def test_a_path_may_begin_with_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "key").write_text("k")
    key, origin, read = keys.of_file("~/key", field="f")
    assert (key.reveal(), origin, read().reveal()) == ("k", "file '~/key'", "k")


def test_a_variable_that_is_not_set_holds_an_empty_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNOPS_KEY_9", raising=False)
    assert not keys.VariableKey("RUNOPS_KEY_9")()
    monkeypatch.setenv("RUNOPS_KEY_9", "k")
    assert keys.VariableKey("RUNOPS_KEY_9")().reveal() == "k"


@pytest.mark.parametrize("value", [dg.EnvVar("RUNOPS_KEY_9"), "", None, 7, "hidden-0123456789abcdef"])
def test_what_is_no_text_of_a_key_stands_as_it_is(value: object) -> None:
    assert keys.hide(value) is value


def test_a_text_is_hidden_by_a_stand_in_that_is_the_same_each_time_and_is_known_by_it() -> None:
    stand_in = str(keys.hide("canary-of-keys"))
    assert stand_in.startswith("hidden-")
    assert len(stand_in) == len("hidden-") + 16
    assert "canary" not in stand_in
    assert keys.hide("canary-of-keys") == keys.hide(stand_in) == stand_in != keys.hide("another-canary")
    assert [keys.is_known(value) for value in (stand_in, "plain")] == [True, True]
    assert [keys.is_known(value) for value in ("hidden-0123456789abcdef", dg.EnvVar("A"))] == [False, False]
    key, origin = keys.reveal(stand_in, field="api_key of It")
    assert (key.reveal(), origin, keys.source_of(stand_in)) == ("canary-of-keys", "api_key of It", None)


def test_a_key_that_one_variable_holds_is_read_from_there_and_named_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNOPS_ONE_OF_9", "canary-of-one-variable")
    variable = dg.EnvVar("RUNOPS_ONE_OF_9")
    assert keys.hide(variable) is variable
    stand_in = str(keys.hide("canary-of-one-variable"))
    assert keys.source_of(stand_in) == keys.source_of(variable) == keys.VariableKey("RUNOPS_ONE_OF_9")
    monkeypatch.setenv("RUNOPS_ONE_OF_9", "rotated")
    for value in (stand_in, variable):
        key, origin = keys.reveal(value, field="f")
        assert (key.reveal(), origin) == ("rotated", "environment variable RUNOPS_ONE_OF_9")
    monkeypatch.delenv("RUNOPS_ONE_OF_9")
    key, origin = keys.reveal(stand_in, field="f")
    assert (key.reveal(), origin) == ("canary-of-one-variable", "f")


def test_a_key_that_two_variables_hold_is_read_from_neither_and_named_by_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("RUNOPS_TWO_B9", "RUNOPS_TWO_A9"):
        monkeypatch.setenv(name, "canary-of-two-variables")
        keys.hide(dg.EnvVar(name))
    stand_in = str(keys.hide("canary-of-two-variables"))
    assert keys.source_of(stand_in) is None
    key, origin = keys.reveal(stand_in, field="f")
    assert (key.reveal(), origin) == ("canary-of-two-variables", "environment variable RUNOPS_TWO_A9")
