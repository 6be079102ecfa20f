"""Who may enter: hosts, origins, and what is malformed."""

from __future__ import annotations

import httpx2
import pytest
from starlette.responses import PlainTextResponse

from quipwright.serving.gate import Admitted, Gate, host_name, is_loopback, origin_host
from quipwright.testing.browser import served


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("127.0.0.1:8400", "127.0.0.1"),
        ("localhost", "localhost"),
        ("[::1]:8400", "::1"),
        ("example.org", "example.org"),
        ("", None),
        ("[::1", None),
        ("localhost:port", None),
        ("localhost:99999", None),
        ("a b", None),
        ("user@localhost", None),
        ("localhost/path", None),
    ],
)
def test_a_host_is_a_name_with_a_port_or_malformed(host: str, name: str | None) -> None:
    assert host_name(host) == name


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://127.0.0.1:8400", "127.0.0.1:8400"),
        ("null", "null"),
        ("http://[::1", None),
        ("nonsense", None),
        ("http://", None),
        ("http://a/b", None),
    ],
)
def test_an_origin_is_a_scheme_with_a_host_or_malformed(origin: str, host: str | None) -> None:
    assert origin_host(origin) == host


def test_this_machine_has_more_than_one_name() -> None:
    assert [is_loopback(name) for name in ("127.0.0.1", "127.9.9.9", "::1", "localhost", "example.org")] == [
        True, True, True, True, False
    ]  # fmt: skip


PAGE = "https://app.example"


def answer(address: str, method: str = "POST", **headers: str) -> httpx2.Response:
    return httpx2.request(method, address, headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_scripts_of_an_admitted_page_may_ask_and_read() -> None:
    gate = Gate(PlainTextResponse("hello"), None, admitted=Admitted(origins=frozenset({PAGE})))
    with served(gate) as address:
        told = answer(address, origin=PAGE, sec_fetch_site="cross-site")
        assert (told.status_code, told.headers["access-control-allow-origin"]) == (200, PAGE)
        assert told.headers.get_list("cross-origin-resource-policy") == ["cross-origin"]
        asked = answer(address, "OPTIONS", origin=PAGE, access_control_request_method="POST")
        assert (asked.status_code, asked.text) == (204, "")
        assert "authorization" in asked.headers["access-control-allow-headers"]
        other = answer(address, origin="https://evil.example")
        assert other.status_code == 403
        assert "access-control-allow-origin" not in other.headers


def test_an_admitted_page_needs_the_token_too() -> None:
    gate = Gate(PlainTextResponse("hello"), "secret", admitted=Admitted(origins=frozenset({"*"})))
    with served(gate) as address:
        assert answer(address, origin=PAGE).status_code == 401
        assert answer(address, "OPTIONS", origin=PAGE, access_control_request_method="POST").status_code == 204
        assert answer(address, origin=PAGE, authorization="Bearer secret").text == "hello"


def test_a_server_answers_to_the_names_it_was_given() -> None:
    gate = Gate(PlainTextResponse("hello"), None, admitted=Admitted(hosts=frozenset({"quips.example"})))
    with served(gate) as address:
        assert answer(address, "GET", host="quips.example:8500").text == "hello"
        assert answer(address, "GET", host="other.example").status_code == 421
