"""Where things lie: what systemd names, else the XDG base directories, else below the home."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_proxy.directories import (
    cache_directory,
    configuration_directory,
    runtime_directory,
    state_directory,
)

HOME = {"HOME": "/home/me"}
XDG = [
    (state_directory, "XDG_STATE_HOME", ".local/state"),
    (configuration_directory, "XDG_CONFIG_HOME", ".config"),
    (cache_directory, "XDG_CACHE_HOME", ".cache"),
]
SYSTEMD = [(state_directory, "STATE_DIRECTORY"), (cache_directory, "CACHE_DIRECTORY")]


@pytest.mark.parametrize(("directory", "variable", "below_home"), XDG)
def test_a_shell_has_the_xdg_directories(directory, variable, below_home):
    assert directory(HOME) == Path("/home/me", below_home, "claude-proxy")
    assert directory({**HOME, variable: ""}) == Path("/home/me", below_home, "claude-proxy")
    assert directory({**HOME, variable: "/elsewhere"}) == Path("/elsewhere/claude-proxy")


@pytest.mark.parametrize(("directory", "variable", "below_home"), XDG)
def test_without_home_the_user_data_base_says_where_it_is(directory, variable, below_home):
    assert directory({}) == Path("~", below_home, "claude-proxy").expanduser()


@pytest.mark.parametrize(("directory", "variable"), SYSTEMD)
def test_what_systemd_names_goes_before_and_is_taken_as_it_is(directory, variable):
    assert directory({**HOME, variable: "/var/lib/x"}) == Path("/var/lib/x")
    assert directory({**HOME, variable: "/var/lib/x:/var/lib/y"}) == Path("/var/lib/x")


def test_the_configuration_of_a_service_is_where_a_shell_has_it():
    environ = {**HOME, "CONFIGURATION_DIRECTORY": "/etc/x"}
    assert configuration_directory(environ) == configuration_directory(HOME)


def test_old_systemds_state_in_the_configuration_home_is_not_used():
    """A shell and the service keep the same state."""
    displaced = {**HOME, "STATE_DIRECTORY": "/home/me/.config/claude-proxy"}
    assert state_directory(displaced) == state_directory(HOME)
    moved = {**displaced, "XDG_CONFIG_HOME": "/elsewhere"}
    assert state_directory(moved) == Path("/home/me/.config/claude-proxy")


def test_the_runtime_directory_is_one_that_exists(tmp_path):
    there, gone = str(tmp_path), str(tmp_path / "gone")
    assert runtime_directory({}) is None
    assert runtime_directory({"XDG_RUNTIME_DIR": there}) == tmp_path
    assert runtime_directory({"XDG_RUNTIME_DIR": gone}) is None
    assert runtime_directory({"RUNTIME_DIRECTORY": there, "XDG_RUNTIME_DIR": gone}) == tmp_path
    assert runtime_directory({"RUNTIME_DIRECTORY": f"{there}:{gone}"}) == tmp_path
    assert runtime_directory({"RUNTIME_DIRECTORY": "", "XDG_RUNTIME_DIR": there}) == tmp_path
