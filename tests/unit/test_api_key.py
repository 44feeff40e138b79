"""The key: where it comes from, how it is kept, how it is compared."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.api_key import ApiKey, load_api_key
from claude_proxy.directories import state_directory
from claude_proxy.settings import ConfigurationError, Settings


@pytest.fixture
def environ(tmp_path) -> dict[str, str]:
    """A key file, a credential and a kept key, all different."""
    for directory in ("credentials", "state"):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "api-key").write_text(f"sk-{directory}\n")
    (tmp_path / "file").write_text("sk-file\n")
    return {
        "CREDENTIALS_DIRECTORY": str(tmp_path / "credentials"),
        "STATE_DIRECTORY": str(tmp_path / "state"),
    }


def test_a_given_key_wins_over_all(environ, tmp_path):
    settings = Settings(api_key="sk-given", api_key_file=str(tmp_path / "file"))
    assert load_api_key(settings, environ).value == "sk-given"


def test_a_key_file_wins_over_the_credential(environ, tmp_path):
    key = load_api_key(Settings(api_key_file=str(tmp_path / "file")), environ)
    assert (key.value, key.source) == ("sk-file", str(tmp_path / "file"))


def test_the_credential_wins_over_a_kept_key(environ, tmp_path):
    key = load_api_key(Settings(), environ)
    assert (key.value, key.source) == ("sk-credentials", str(tmp_path / "credentials/api-key"))


def test_without_the_credential_the_kept_key_counts(environ, tmp_path):
    (tmp_path / "credentials/api-key").unlink()
    assert load_api_key(Settings(), environ).value == "sk-state"


def test_a_missing_key_file_is_not_replaced_by_another_source(environ, tmp_path):
    with pytest.raises(ConfigurationError, match="No such file"):
        load_api_key(Settings(api_key_file=str(tmp_path / "missing")), environ)


@pytest.mark.parametrize(
    ("environ", "directory"),
    [
        ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b", "HOME": "/h"}, "/var/lib/a"),
        ({"XDG_STATE_HOME": "/xdg", "HOME": "/h"}, "/xdg/claude-proxy"),
        ({"HOME": "/h"}, "/h/.local/state/claude-proxy"),
        ({"XDG_STATE_HOME": "", "HOME": "/h"}, "/h/.local/state/claude-proxy"),
    ],
)
def test_the_state_directory_is_systemds_else_xdgs(environ, directory):
    assert state_directory(environ) == Path(directory)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names_in(directory: Path) -> list[str]:
    return [entry.name for entry in directory.iterdir()]


@pytest.mark.parametrize("umask", [0, 0o22, 0o77])
def test_a_made_key_is_private_and_kept(tmp_path, umask):
    environ = {"XDG_STATE_HOME": str(tmp_path / "not/yet/there")}
    before = os.umask(umask)
    try:
        made = load_api_key(Settings(), environ)
    finally:
        os.umask(before)
    path = Path(made.source)
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    assert path.read_text() == made.value + "\n"
    assert len(made.value) >= 40
    assert load_api_key(Settings(), environ).value == made.value
    assert names_in(path.parent) == ["api-key"]


def test_two_made_keys_differ(tmp_path):
    made = [load_api_key(Settings(), {"STATE_DIRECTORY": str(tmp_path / n)}).value for n in "ab"]
    assert made[0] != made[1]


def test_processes_that_start_at_once_agree_on_one_key(tmp_path):
    """They are all imported and waiting before the first may go on."""
    script = (
        "import os; from claude_proxy.api_key import load_api_key; "
        "from claude_proxy.settings import Settings; print('ready', flush=True); input(); "
        "print(load_api_key(Settings(), os.environ).value)"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", script],
            env={"STATE_DIRECTORY": str(tmp_path / "state")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for _ in range(6)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    keys = {racer.communicate(timeout=20)[0] for racer in racers}
    assert [racer.returncode for racer in racers] == [0] * 6
    assert keys == {(tmp_path / "state/api-key").read_text()}
    assert names_in(tmp_path / "state") == ["api-key"]


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"  \nsk-second-line", b"two words\n", b"sk-\xff", "sk-ü".encode(), b"a\0b"],
)
def test_a_file_without_a_usable_key_is_refused_without_showing_it(tmp_path, content):
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        load_api_key(Settings(api_key_file=str(path)), {})
    assert str(path) in str(caught.value)
    assert "sk-" not in str(caught.value)


@pytest.mark.parametrize("content", ["sk-key", "sk-key\n", "  sk-key \r\n", "sk-key\nmore\n"])
def test_the_key_is_the_first_line_without_white_space(tmp_path, content):
    path = tmp_path / "key"
    path.write_text(content)
    assert load_api_key(Settings(api_key_file=str(path)), {}).value == "sk-key"


def test_a_key_file_may_start_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "key").write_text("sk-home")
    assert load_api_key(Settings(api_key_file="~/key"), {}).value == "sk-home"


TOO_LONG = "x" * 300


@pytest.mark.parametrize(
    ("settings", "environ"),
    [
        (Settings(api_key_file="/"), {}),
        (Settings(api_key_file="~no-such-user/key"), {}),
        (Settings(api_key_file=f"/{TOO_LONG}"), {}),
        (Settings(), {"STATE_DIRECTORY": "/dev/null/state"}),
        (Settings(), {"STATE_DIRECTORY": f"/{TOO_LONG}"}),
        (Settings(), {"CREDENTIALS_DIRECTORY": f"/{TOO_LONG}", "STATE_DIRECTORY": "/dev/null"}),
        (Settings(), {"HOME": "~no-such-user"}),
    ],
    ids=["directory", "no such user", "file", "no directory", "state", "credentials", "home"],
)
def test_paths_that_cannot_be_used_are_a_configuration_error(settings, environ):
    with pytest.raises(ConfigurationError):
        load_api_key(settings, environ)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_a_state_directory_of_somebody_else_is_a_configuration_error(tmp_path):
    tmp_path.chmod(0o700)
    script = """
import os
from claude_proxy.api_key import load_api_key
from claude_proxy.settings import ConfigurationError, Settings

os.setuid(65534)
try:
    load_api_key(Settings(), os.environ)
except ConfigurationError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"STATE_DIRECTORY": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert "Permission denied" in done.stdout


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1), st.binary())
def test_only_the_very_bytes_of_the_key_match(value, candidate):
    key = ApiKey(value, "test")
    assert key.matches(value.encode())
    assert key.matches(candidate) is (candidate == value.encode())
    assert not key.matches(value.encode() + b"\0")
    assert not key.matches(value.encode()[:-1])


def test_a_key_does_not_show_itself():
    assert "sk-secret" not in repr(ApiKey("sk-secret", "test"))
    assert "sk-secret" not in f"{ApiKey('sk-secret', 'test')}"
