"""Settings of connections and of limits as people give them: what is taken, what is refused, and what is masked."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from runops.core import ConfigurationError, Verdict, find
from runops.core.model.codes import Code
from runops.core.model.policy import OutcomePolicy, code_of
from runops.core.model.run import Outcome
from runops.core.model.secret import MASK, Opaque, Secret
from runops.core.transport.auth import HeaderAuth
from runops.core.transport.network_settings import NetworkSettings, proxy_of_environment
from runops.core.transport.rate_settings import RateSettings, host_and_port, secrets_of

ORIGIN = "connection 'nexio_default'"
STORE = "redis://user:p%40ss@host.example:6390/2"


def revealed(secrets: tuple[Secret, ...]) -> list[str]:
    return [secret.reveal() for secret in secrets]


# --- limits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"requests_per_minute": 0}, "requests_per_minute of {origin} must be a number above 0"),
        ({"requests_per_minute": 60, "processes": 0}, "processes of {origin} must be a number above 0"),
        ({"requests_per_minute": 60, "processes": 1.5}, "processes of {origin} must be a whole number from 1 on"),
        ({"processes": 2}, "processes of {origin} is set without requests_per_minute: set the limit that the"),
        ({"rate_store": STORE}, "rate_store of {origin} is set without requests_per_minute: set the limit"),
        ({"rate_store": 7}, "rate_store of {origin} must be an address, not int: write redis://user:password@host:6379/0"),
        *(
            ({"requests_per_minute": 60, "rate_store": store}, f"rate_store of {{origin}} {problem}")
            for store, problem in (
                ("http://host", "has a scheme that is none of redis, rediss"),
                ("redis://", "is no address: write redis://"),
                ("redis://host:0", "is no address: "),
                ("redis://host:port", "is no address: "),
                ("redis://host/zero", "is no address: "),
                ("redis://host#1", "is no address: "),
                ("redis://host?timeout=9", "has an option that is none of db, ssl_ca_certs, ssl_certfile, "),
            )
        ),
    ],
)  # fmt: skip
def test_a_limit_that_cannot_be_used_is_refused_by_its_name_and_place(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RateSettings.of(**given, origin=ORIGIN)
    assert caught.value.text.startswith(problem.format(origin=ORIGIN))
    assert "p%40ss" not in str(caught.value)


def test_processes_share_a_limit_evenly_unless_a_store_shares_it_out() -> None:
    alone = RateSettings.of(requests_per_minute="60", processes="4")
    assert (alone.requests_per_minute, alone.processes, alone.alone, alone.pace) == (60, 4, 15, 15)
    shared = RateSettings.of(requests_per_minute=60, processes=4, rate_store=f"{STORE}?db=1")
    assert (shared.alone, shared.pace) == (15, 60)
    none = RateSettings.of()
    assert (none.requests_per_minute, none.processes, none.alone, none.pace, none.key) == (
        None,
        1,
        None,
        None,
        (None, 1, ""),
    )
    assert shared.key == (60, 4, Secret(f"{STORE}?db=1").fingerprint)


def test_what_a_store_s_address_holds_is_masked_as_it_is_written_and_as_it_is_meant() -> None:
    assert revealed(secrets_of(Secret(STORE))) == [STORE, "p%40ss", "p@ss"]
    assert revealed(secrets_of(Secret("redis://host"))) == ["redis://host"]
    assert revealed(secrets_of(Secret("redis://[host"))) == ["redis://[host"]
    assert secrets_of(Secret("")) == secrets_of(None) == secrets_of(STORE) == ()
    assert host_and_port(Secret(STORE)) == "host.example:6390"
    assert host_and_port(Secret("redis://user:x@[::1]")) == "[::1]:6379"


# --- connections --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"proxy": 7}, "proxy of {origin} must be an address such as http://host:3128, not int."),
        (
            {"proxy": "ftp://host:1"},
            "The proxy ftp://host:1 in proxy of {origin} cannot be used: its scheme is none ",
        ),
        ({"proxy": "http://u:pa/ss@host:1"}, "The proxy in proxy of {origin} cannot be used: write scheme://user:"),
        ({"proxy": "http://host?x=1"}, "The proxy in proxy of {origin} cannot be used: write scheme://user:"),
        ({"proxy": "http://host#x"}, "The proxy in proxy of {origin} cannot be used: write scheme://user:"),
        ({"proxy": "http://:80"}, "The proxy http://:80 in proxy of {origin} cannot be used: it is no address."),
        ({"proxy": "http://host:0"}, "The proxy http://host:80 in proxy of {origin} cannot be used: it is no address."),
        ({"proxy": "http://host:x"}, "The proxy http://an address that cannot be read in proxy of {origin} cannot be"),
        ({"verify": False}, "verify of {origin} is false: the key would go to whoever answers"),
        ({"verify": " FALSE "}, "verify of {origin} is false: the key would go to whoever answers"),
        ({"verify": 7}, "verify of {origin} must be the path of a PEM file, not int."),
        ({"client_cert": "-----BEGIN CERTIFICATE-----"}, "client_cert of {origin} holds a certificate or key itself"),
        ({"client_cert": "a\nb"}, "client_cert of {origin} holds a certificate or key itself"),
        ({"client_cert": "x" * 801}, "client_cert of {origin} holds a certificate or key itself"),
        ({"client_key": "key.pem"}, "client_key of {origin} is set without client_cert: name the file of the"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_by_its_name_and_place(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        NetworkSettings.of(**given, origin=ORIGIN)
    assert caught.value.text.startswith(problem.format(origin=ORIGIN))
    assert caught.value.error_code is Code.BAD_CONNECTION
    assert "pa/ss" not in str(caught.value)


def test_what_is_not_set_is_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    settings = NetworkSettings.of(verify=True, origin=ORIGIN)
    assert (settings.key, settings.secrets) == (("", "", "", ""), ())
    assert NetworkSettings.of(verify=" True ").key == ("", "", "", "")
    address, named = settings.proxy_for("https://a.example")
    assert (address.reveal(), named) == ("", "that the environment names (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY)")
    monkeypatch.setenv("ALL_PROXY", "proxy.example:1")
    monkeypatch.setenv("HTTPS_PROXY", "http://secure.example:2")
    assert proxy_of_environment("https://a.example") == "http://secure.example:2"
    assert proxy_of_environment("http://a.example") == "http://proxy.example:1"
    for here in ("https://localhost:9", "https://127.0.0.9", "https://[::1]"):
        assert proxy_of_environment(here) == ""
    monkeypatch.setenv("NO_PROXY", "a.example")
    assert proxy_of_environment("https://a.example") == ""
    assert (
        NetworkSettings.of(proxy="http://p.example:3").proxy_for("https://a.example")[0].reveal()
        == "http://p.example:3"
    )


def test_what_a_proxy_s_address_holds_is_masked_and_shared_as_a_hash_alone() -> None:
    settings = NetworkSettings.of(proxy="user:p%40ss@proxy.example:3128", verify="ca.pem", client_cert="~x/c.pem")
    address = "http://user:p%40ss@proxy.example:3128"
    assert revealed(settings.secrets) == [address, "p%40ss", "p@ss"]
    assert settings.key == ("ca.pem", "~x/c.pem", "", Secret(address).fingerprint)
    peer = settings.peer("https://api.example", "Nexio", origin="the URL")
    assert (peer.name, peer.proxy, peer.proxy_setting) == ("Nexio at api.example:443", "proxy.example:3128", "proxy")
    named = NetworkSettings.of(proxy=address, origin=ORIGIN).peer("http://[::1]:8080")
    assert (named.name, named.proxy_setting) == ("the service at [::1]:8080", f"proxy of {ORIGIN}")


def test_a_path_is_taken_as_it_is_meant(tmp_path: Path) -> None:
    settings = NetworkSettings.of(verify=tmp_path / "ca.pem", client_cert=" c.pem ", client_key="~/k.pem")
    assert settings.key[:2] == (str(tmp_path / "ca.pem"), "c.pem")
    assert settings.key[2] == str(Path("~/k.pem").expanduser())
    assert NetworkSettings.of(client_cert="x" * 800).key[1] == "x" * 800


# --- keys and secrets ---------------------------------------------------------------------------------------------


def test_a_credential_stays_in_its_process() -> None:
    credential = HeaderAuth(find("nexio").auth, Secret("a-key-that-stays"), origin="the test")
    with pytest.raises(TypeError, match="does not travel between processes"):
        pickle.dumps(credential)
    assert "a-key-that-stays" not in repr(credential)


def test_nothing_is_removed_where_there_is_no_secret() -> None:
    assert (Secret("").removed_from("a text"), Secret("").longest_spelling, Secret(None).reveal()) == ("a text", 0, "")
    secret = Secret("a key+/?")
    for spelling in ("a key+/?", "a%20key%2B%2F%3F", "a+key%2b%2f%3f", "YSBrZXkrLz8=", "YSBrZXkrLz8"):
        assert secret.removed_from(f"<{spelling}>") == f"<{MASK}>"
    assert secret.longest_spelling == len("a%20key%2B%2F%3F")
    assert (secret.mark, len(secret.mark)) == (secret.fingerprint[:16], 16)


def test_a_body_shows_its_size_alone() -> None:
    body = Opaque(b"secret")
    assert (repr(body), str(body), repr(body[1:3]), body[0]) == ("<6 bytes>", "<6 bytes>", "<2 bytes>", ord("s"))


# --- policies -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("soft_fail", ["true", 1, None])
def test_soft_fail_is_a_flag(soft_fail: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"^soft_fail must be True or False, not '{soft_fail}'"):
        OutcomePolicy.build(soft_fail=soft_fail)


@pytest.mark.parametrize(
    ("outcome", "verdict", "unmet", "code"),
    [
        ("failed", "succeed", False, None), ("succeeded", "succeed", True, None),
        ("succeeded", "fail", True, "EXPECT_UNMET"),
        ("degraded", "warn", False, "RUN_WARNED"), ("failed", "skip", False, "SOFT_FAILED"),
        ("degraded", "skip", False, "RUN_SKIPPED"), ("failed", "fail", False, "RUN_FAILED"),
        ("cancelled", "fail", False, "RUN_CANCELLED"), ("timed_out", "fail", False, "RUN_TIMED_OUT"),
        ("degraded", "fail", False, "RUN_REJECTED"), ("succeeded", "fail", False, "RUN_REJECTED"),
    ],
)  # fmt: skip
def test_the_code_of_an_end_says_what_has_made_it(outcome: str, verdict: str, unmet: bool, code: str | None) -> None:
    found = code_of(Outcome(outcome), Verdict(verdict), unmet=unmet)
    assert found == (None if code is None else Code[code])
