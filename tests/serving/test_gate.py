"""Who may enter: hosts, origins, and what is malformed."""

from __future__ import annotations

import pytest

from quipwright.serving.gate import host_name, is_loopback, origin_host


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
