"""Whose requests get in: names of this machine, and pages of allowed origins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from claude_proxy.http import gate
from claude_proxy.http.gate import HostNotAllowed, OriginNotAllowed
from claude_proxy.settings import Settings

SETTINGS = Settings(
    allow_host=("llm.example", "[fd00::7]"),
    allow_origin=("https://chat.example", "http://localhost:*", "app://*.local", "vscode://*"),
)
TCP = ("127.0.0.1", 8080)


def scope(server=TCP, method="POST"):
    return {"type": "http", "method": method, "server": server}


def check(server=TCP, settings=SETTINGS, **headers: str) -> str | None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return gate.check(scope(server), Headers(named), settings)


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:8080", "LOCALHOST", "localhost.", "a.localhost:1"),
        *("127.0.0.1", "127.0.0.1:8080", "127.1.2.3", "[::1]", "[::1]:8080", "127.0.0.1:"),
        *("llm.example", "LLM.example:443", "[fd00::7]:1"),
    ],
)
def test_names_of_this_machine_and_those_that_are_allowed_get_in(host):
    assert check(host=host) is None


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example"),
        *("notlocalhost", "192.168.1.5", "0.0.0.0", "[::]", "169.254.169.254", "[fd00::8]"),
        *(
            "",
            " ",
            ":8080",
            "localhost:x",
            "evil@localhost",
            "localhost/",
            "127.0.0.1:1:2",
            "2130706433",
        ),
        *("[::1", "::1]", "localhost,evil", "l\u00f6calhost"),
    ],
)
def test_any_other_name_is_kept_out(host):
    """A page whose name was pointed at 127.0.0.1 has that name in its requests."""
    with pytest.raises(HostNotAllowed) as caught:
        check(host=host)
    assert (caught.value.status, caught.value.code) == (403, "host_not_allowed")
    assert "--allow-host" in caught.value.message
    assert caught.value.message.isascii()


def test_the_address_that_a_connection_came_to_and_those_that_were_given_are_names_too():
    assert check(("192.168.1.5", 8080), host="192.168.1.5:8080") is None
    assert check(("fe80::1%eth0", 8080), host="[fe80::1]") is None
    given = Settings(host="box.lan", listen=("box.home:80", "/run/x.sock", "[fd00::1]:90"))
    for host in ("box.lan", "box.home", "[fd00::1]"):
        assert check(host=host, settings=given) is None
    with pytest.raises(HostNotAllowed):
        check(("192.168.1.5", 8080), host="192.168.1.6")


@pytest.mark.parametrize("server", [("/run/a.sock", None), None])
def test_no_browser_reaches_a_unix_socket_so_any_host_does_there(server):
    assert check(server, host="whatever") is None


def test_an_old_client_needs_no_host():
    assert check() is None


@pytest.mark.parametrize(
    "origin",
    [
        *("https://chat.example", "HTTPS://chat.EXAMPLE", "http://localhost:3000"),
        *("app://x.local", "vscode://abc123"),
    ],
)
def test_pages_of_allowed_origins_get_in(origin):
    assert check(host="localhost", origin=origin) == origin


@pytest.mark.parametrize(
    "origin",
    [
        *("https://evil.example", "http://chat.example", "https://chat.example:444", "null", ""),
        *("https://chat.example.evil.example", "http://localhost:1/x", "app://evil/x.local"),
        "http://localhost",
    ],
)
def test_pages_of_other_origins_are_kept_out(origin):
    with pytest.raises(OriginNotAllowed) as caught:
        check(host="localhost:8080", origin=origin)
    assert (caught.value.status, caught.value.code) == (403, "origin_not_allowed")
    assert "--allow-origin" in caught.value.message


def test_its_own_pages_get_in_and_those_of_another_port_do_not():
    assert check(host="localhost:8080", origin="http://localhost:8080", settings=Settings())
    for other in ("http://localhost:8081", "https://localhost:8080", "http://127.0.0.1:8080"):
        with pytest.raises(OriginNotAllowed):
            check(host="localhost:8080", origin=other, settings=Settings())


def test_a_lone_star_lets_every_page_in():
    everybody = Settings(allow_origin=("*",))
    for origin in ("null", "https://evil.example"):
        assert check(host="localhost", origin=origin, settings=everybody) == origin


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_pages_fetch_without_an_origin_is_kept_out_but_a_link_may_be_followed(site):
    with pytest.raises(OriginNotAllowed):
        check(host="localhost", sec_fetch_site=site, sec_fetch_mode="no-cors")
    assert check(host="localhost", sec_fetch_site=site, sec_fetch_mode="navigate") is None
    assert check(host="localhost", sec_fetch_site="none") is None
    assert check(host="localhost", sec_fetch_site="same-origin") is None


@given(st.text(max_size=60))
def test_no_text_gets_in_unless_it_names_this_machine(host):
    header = host.encode("latin-1", "replace").decode("latin-1")
    named = gate.host_of(header) or ""
    if gate.is_loopback(named) or named in {"llm.example", "fd00::7"}:
        assert check(host=header) is None
        return
    with pytest.raises(HostNotAllowed) as caught:
        check(host=header)
    assert len(caught.value.message) < 600


def test_a_preflight_tells_what_a_page_may_send_and_that_it_may_reach_what_is_local():
    asked = Headers(
        {
            "origin": "https://chat.example",
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization, x-stainless-os",
            "access-control-request-private-network": "true",
        }
    )
    assert gate.is_preflight(scope(method="OPTIONS"), asked)
    assert not gate.is_preflight(scope(method="POST"), asked)
    answer = gate.preflight(asked)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-headers"] == "authorization, x-stainless-os"
    assert "DELETE" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-private-network"] == "true"


def test_a_preflight_repeats_no_nonsense_and_an_options_without_one_is_none():
    asked = Headers({"origin": "https://x", "access-control-request-headers": "a\x00b, <script>"})
    answer = gate.preflight(asked)
    assert "access-control-allow-headers" not in answer.headers
    assert "access-control-allow-private-network" not in answer.headers
    assert not gate.is_preflight(scope(method="OPTIONS"), asked)


def test_the_answer_to_a_page_names_its_origin_alone():
    shown = gate.cors("https://chat.example")
    assert shown["access-control-allow-origin"] == "https://chat.example"
    assert shown["vary"].startswith("Origin")
    assert "x-request-id" in shown["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in shown


def test_an_origin_that_no_browser_has_costs_no_time():
    """Three stars and some thousand places for each would take the loop for hours."""
    stars = Settings(allow_origin=("https://*.example:*.example:*",))
    with pytest.raises(OriginNotAllowed):
        check(host="localhost", settings=stars, origin="https://" + ".example:" * 7_000 + "/")
    assert check(host="localhost", settings=stars, origin="https://a.example:1.example:2")


def test_on_a_socket_of_both_families_an_ipv4_address_is_the_connection_s_own():
    assert check(("::ffff:192.168.1.5", 8080), host="192.168.1.5:8080") is None
    with pytest.raises(HostNotAllowed):
        check(("::ffff:192.168.1.5", 8080), host="192.168.1.6:8080")
