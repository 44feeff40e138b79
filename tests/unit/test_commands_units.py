"""The units' text: what systemd reads from it is what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.commands import unit_text, units
from claude_proxy.listeners import Place
from claude_proxy.settings import ConfigurationError

SHIPPED = """# A comment.
[Service]
Environment=PATH=%h/bin
ExecStart=%h/.local/bin/claude-proxy --idle-exit 15min --demo
Restart=on-failure
"""
SHIPPED_SOCKET = """[Socket]
ListenStream=127.0.0.1:8080
ListenStream=%t/claude-proxy/claude-proxy.sock
NoDelay=yes
"""


def service(*flags: str, credential: Path | None = None, **variables: str) -> list[str]:
    command = units.Command(["/opt/my proxy"], flags, {"PATH": "/p"} | variables, credential)
    return units.service(SHIPPED, "1.2.3", command).splitlines()


def test_the_first_line_is_the_mark_and_tells_the_version():
    text = units.service(SHIPPED, "1.2.3", units.Command(["/x"], [], {"PATH": "/p"}))
    assert units.marked(text) == "1.2.3"
    assert units.marked(SHIPPED) is None


def test_flags_of_the_shipped_unit_stay_unless_they_are_given():
    assert 'ExecStart="/opt/my proxy" --idle-exit=15min --demo' in service()
    assert 'ExecStart="/opt/my proxy" --demo --idle-exit=0' in service("--idle-exit=0")


def test_everything_else_stays_as_shipped():
    lines = service(PATH="/a:/b")
    assert lines[1:3] == ["# A comment.", "[Service]"]
    assert lines[-1] == "Restart=on-failure"
    assert [line for line in lines if "PATH" in line] == ["Environment=PATH=/a:/b"]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("plain/path.x", "plain/path.x"),
        ("two words", '"two words"'),
        ("100%", "100%%"),
        ('say "x"', r'"say \"x\""'),
        ("back\\slash", r'"back\\slash"'),
        ("", '""'),
        ("a;b", '"a;b"'),
    ],
)
def test_quoting(text, written):
    assert units.quoted(text) == written


def test_variables_are_kept_from_being_replaced_in_arguments_only():
    assert units.command_line(["/a$b", "$HOME"]) == '"/a$b" "$$HOME"'
    assert service(X="$5")[4] == 'Environment="X=$5"'


words = st.text(st.characters(exclude_categories=("Cs", "Cc")))


@given(st.lists(words))
def test_what_is_written_is_read_back(arguments):
    line = units.command_line(["/opt/proxy", *arguments])
    assert unit_text.words_of(f"[Service]\nExecStart={line}\n") == ["/opt/proxy", *arguments]


@pytest.mark.parametrize("text", ["a\nb", "a\x00", "\udcff"])
def test_what_cannot_stand_in_a_unit_is_refused(text):
    with pytest.raises(ConfigurationError):
        units.quoted(text)


def test_a_key_file_becomes_a_credential():
    lines = service(credential=Path("/home/me/my key%"))
    assert "LoadCredential=api-key:/home/me/my key%%" in lines


def test_home_in_a_shipped_command():
    assert unit_text.words_of(SHIPPED, "/home/me")[0] == "/home/me/.local/bin/claude-proxy"


def test_flags_with_and_without_a_sign_are_read():
    words = ["--port", "1", "--demo", "--claude=/x", "--port=2", "-m", "x"]
    assert units.flags_of(words) == {"--port": "2", "--demo": "", "--claude": "/x"}


def socket(*places: str) -> list[str]:
    text = units.socket(SHIPPED_SOCKET, "1.2.3", [Place.of(place) for place in places])
    return [line for line in text.splitlines() if line != "[Socket]"][1:]


def test_the_addresses_are_those_given_and_the_shipped_path():
    assert socket("127.0.0.1:9000", "[::1]:9000", "/run/my%.sock") == [
        "ListenStream=127.0.0.1:9000",
        "ListenStream=[::1]:9000",
        "ListenStream=/run/my%%.sock",
        "BindIPv6Only=ipv6-only",
        "ListenStream=%t/claude-proxy/claude-proxy.sock",
        "NoDelay=yes",
    ]


def test_an_address_that_may_come_late_is_bound_before_it_is_there():
    assert "FreeBind=yes" in socket("192.168.1.5:80")
    assert "FreeBind=yes" not in socket("0.0.0.0:80")


def test_an_interface_stands_behind_the_port():
    assert socket("[fe80::1%eth0]:80")[0] == "ListenStream=[fe80::1]:80%%eth0"


def test_names_are_not_looked_up():
    assert socket("localhost:80")[0] == "ListenStream=127.0.0.1:80"
    with pytest.raises(ConfigurationError, match=r"example\.com"):
        socket("example.com:80")


def test_a_free_port_is_no_address():
    with pytest.raises(ConfigurationError, match="--port"):
        socket("127.0.0.1:0")
