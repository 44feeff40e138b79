"""`config` in a home of its own: the address, the way to the key, and what it writes."""

from __future__ import annotations

import os
import re
import stat
import tomllib

import pytest

from claude_proxy.client_settings import CLIENTS
from claude_proxy.commands import own_files, service_endpoint, unit_files
from claude_proxy.listeners import Place
from claude_proxy.settings import ConfigurationError
from tests.unit.test_commands_desk import Desk

PROFILE = ".codex/claude-proxy.config.toml"


@pytest.fixture
def desk(tmp_path) -> Desk:
    return Desk(tmp_path)


def provider(said: str) -> dict:
    """Codex's, of what is printed for it."""
    return tomllib.loads(said.partition("\n# ---")[0])["model_providers"]["claude-proxy"]


def url(desk: Desk, *argv: str, **environ: str) -> str:
    return provider(desk.say("config", "codex", *argv, **environ))["base_url"]


def test_it_lists_the_clients(desk):
    assert desk.say("config").split() == list(CLIENTS)
    assert "of which client?" in desk.complaint("config", "--write", code=2)


def test_a_client_that_it_does_not_know_is_an_error_with_the_near_one(desk):
    assert "unknown client codx; did you mean codex?" in desk.complaint("config", "codx", code=2)
    assert "did you mean openclaw?" in desk.complaint("config", "OpenClaw", code=2)
    assert "known are openclaw, cursor" in desk.complaint("config", "emacs", code=2)


def test_the_key_is_made_and_referred_to_and_never_shown(desk):
    said = desk.say("config", "openai")
    path = desk.home / ".local/state/claude-proxy/api-key"
    assert f'Path("{path}").read_text()' in said
    assert path.read_text().strip() not in said + desk.say("config", "cursor")


@pytest.mark.parametrize(
    ("flags", "base"),
    [
        (["--port", "65535"], "http://127.0.0.1:65535/v1"),
        (["--host", "[::1]", "--port", "81"], "http://[::1]:81/v1"),
        (["--host", "0.0.0.0"], "http://127.0.0.1:8080/v1"),
        (["--host", "::", "--port", "82"], "http://[::1]:82/v1"),
        (["--host", "localhost"], "http://localhost:8080/v1"),
        (["--listen", "/run/a.sock", "--listen", "[::1]:90"], "http://[::1]:90/v1"),
        (["--listen", "127.0.0.1:0", "--listen", "127.0.0.2:91"], "http://127.0.0.2:91/v1"),
    ],
)
def test_the_address_is_that_of_the_flags(desk, flags, base):
    assert url(desk, *flags) == base


def test_the_address_is_that_of_the_service(desk):
    desk.serve("/bin/true --port 8123")
    assert url(desk) == "http://127.0.0.1:8123/v1"
    desk.answer("socket", "LoadState=loaded\nActiveState=active\nListen=[::1]:8124 (Stream)")
    assert url(desk) == "http://[::1]:8124/v1"
    assert url(desk, "--port", "99") == "http://127.0.0.1:99/v1"


def test_an_address_of_the_environment_is_not_the_services(desk):
    assert url(desk, PORT="8200") == "http://127.0.0.1:8200/v1"
    desk.serve("/bin/true --port 8123")
    assert url(desk, PORT="8200") == "http://127.0.0.1:8123/v1"


def test_an_address_that_no_client_can_be_told_is_an_error_that_says_what_to_do(desk):
    assert "--port" in desk.complaint("config", "codex", "--port", "0")
    said = desk.complaint("config", "codex", "--listen", "/run/a.sock")
    assert "/run/a.sock alone" in said
    assert "--listen 127.0.0.1:8080" in said


def test_the_models_are_the_services(desk):
    desk.serve("/bin/true --model opus --model-alias fast=haiku --model-alias gpt-*=sonnet")
    said = desk.say("config", "openai")
    names = re.findall(r"^# ([\w-]+): [\d,]+ tokens", said, re.MULTILINE)
    assert names == ["opus", "haiku", "sonnet", "fast"]
    assert 'model="opus"' in said
    assert 'model="haiku"' in desk.say("config", "openai", "--model", "haiku")


def test_a_key_file_is_read_by_the_client_when_it_holds_nothing_else(desk):
    path = desk.home / "my key"
    path.write_text("sk-mine\n")
    flag = f"--api-key-file={path}"
    assert provider(desk.say(flag, "config", "codex"))["auth"]["args"] == [str(path)]
    path.write_text("sk-mine\nof mine\n")
    auth = provider(desk.say(flag, "config", "codex"))["auth"]
    assert auth["args"][-2:] == [flag, "key"]
    assert "sk-mine" not in desk.say(flag, "config", "codex")


def test_a_key_that_is_in_no_file_stays_where_it_is(desk):
    auth = provider(desk.say("config", "codex", PROXY_API_KEY="sk-mine"))["auth"]
    assert [auth["command"], *auth["args"]] == ["printenv", "PROXY_API_KEY"]
    desk.serve("/bin/true")
    desk.service.write_text("[Service]\nExecStart=/bin/true\nSetCredential=api-key:sk-unit\n")
    auth = provider(desk.say("config", "codex"))["auth"]
    assert auth["args"][-1] == "key"


def test_a_key_of_the_unit_is_read_by_the_client_from_its_file(desk):
    path = desk.home / "key"
    path.write_text("sk-unit\n")
    desk.serve("/bin/true")
    desk.service.write_text("[Service]\nExecStart=/bin/true\nLoadCredential=api-key:%h/key\n")
    assert provider(desk.say("config", "codex"))["auth"]["args"] == [str(path)]


def test_a_path_that_is_no_text_is_an_error(desk):
    home = desk.home / os.fsdecode(b"\xff")
    assert "is not UTF-8" in desk.complaint("config", "codex", HOME=str(home))


@pytest.mark.parametrize("text", ["a\nrm -rf b", "a\u2028b", "a\x1b[31m", "a\x7f", "\udcff"])
def test_what_would_end_a_line_gets_into_no_text_that_somebody_pastes(text):
    with pytest.raises(ConfigurationError, match="not in one line"):
        service_endpoint.check(text)


def test_that_holds_for_names_of_models_and_for_the_places_of_files(desk):
    said = desk.complaint("config", "openai", "--model-alias", "a\nimport os=sonnet")
    assert "'a\\nimport os'" in said
    assert "'a\\nb'" in desk.complaint("config", "codex", CODEX_HOME="a\nb")


@pytest.mark.parametrize("host", ["$(id)", "`id`", 'a"b', "a b", "x@y", "fe80::1%eth0;id"])
def test_a_host_that_is_none_gets_into_no_text_that_a_shell_reads(host):
    """`HOST` is a variable that others set, too."""
    with pytest.raises(ConfigurationError, match="say one with --host"):
        service_endpoint.url_of([Place(host, 8080)])


def test_a_key_that_cannot_be_read_is_an_error(desk):
    assert "gone: No such file" in desk.complaint("config", "codex", "--api-key-file", "gone")


def test_it_writes_a_file_of_its_own_and_again(desk):
    said = desk.say("config", "codex", "--write")
    path = desk.home / PROFILE
    assert said == f"wrote {path}\n\n# --- Codex: in a shell\ncodex --profile claude-proxy\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [*path.parent.iterdir()] == [path]
    first, _, rest = path.read_text().partition("\n")
    assert first.startswith("# Written by claude-proxy config --write")
    assert rest in desk.say("config", "codex")
    desk.say("config", "codex", "--write", "--port", "99")
    assert ":99/v1" in path.read_text()


def test_other_clients_directories_are_theirs(desk, tmp_path):
    said = desk.say("config", "codex", "--write", CODEX_HOME=str(tmp_path / "there"))
    assert said.startswith(f"wrote {tmp_path}/there/claude-proxy.config.toml\n")
    said = desk.say("config", "aider", "--write", XDG_CONFIG_HOME=str(tmp_path / "config"))
    assert said.startswith(f"wrote {tmp_path}/config/claude-proxy/clients/aider.conf.yml\n")
    metadata = tmp_path / "config/claude-proxy/clients/aider.model.metadata.json"
    assert f'"{metadata}"' in metadata.with_name("aider.conf.yml").read_text()
    assert metadata.read_text().startswith("// Written by")


@pytest.mark.parametrize("text", ["", "model = 'mine'\n", None])
def test_a_file_of_the_users_is_never_changed(desk, text):
    path = desk.home / PROFILE
    if text is None:
        desk.say("config", "codex", "--write")
        text = path.read_text() + "model_verbosity = 'low'\n"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    assert f"{path} is not by claude-proxy config, or was changed since" in desk.complaint(
        "config", "codex", "--write"
    )
    assert path.read_text() == text
    assert [*path.parent.iterdir()] == [path]


def test_of_several_files_none_is_written_when_one_may_not_be(desk):
    path = desk.home / ".config/claude-proxy/clients/aider.model.metadata.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    assert str(path) in desk.complaint("config", "aider", "--write")
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.parametrize("there", [True, False])
def test_a_symbolic_link_is_left_alone(desk, tmp_path, there):
    path = desk.home / PROFILE
    path.parent.mkdir()
    path.symlink_to(tmp_path / "elsewhere")
    if there:
        (tmp_path / "elsewhere").touch()
    assert f"is a symbolic link to {tmp_path}/elsewhere" in desk.complaint(
        "config", "codex", "--write"
    )
    assert path.is_symlink()
    assert (tmp_path / "elsewhere").exists() is there


def test_what_is_no_regular_file_is_left_alone(desk):
    (desk.home / PROFILE).mkdir(parents=True)
    assert "cannot be read (Is a directory)" in desk.complaint("config", "codex", "--write")


def test_what_cannot_even_be_looked_at_is_an_error_that_says_what_to_do(desk):
    """As root, every directory can be searched; but no name is that long."""
    said = desk.complaint("config", "codex", "--write", CODEX_HOME=str(desk.home / ("a" * 300)))
    assert "cannot be read (File name too long)" in said


def test_a_home_that_is_not_ours_to_look_into_has_no_units():
    """As above, by a name that is too long."""
    assert unit_files.on_disk({"XDG_CONFIG_HOME": f"/{'a' * 300}"}) == ""


def test_nothing_is_written_where_one_of_several_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    good, bad = tmp_path / "there/good", tmp_path / "file/bad"
    with pytest.raises(ConfigurationError, match="file/bad: File exists"):
        own_files.write({good: "text", bad: "text"})
    assert [*good.parent.iterdir()] == []


def test_what_somebody_else_has_put_in_the_way_is_not_used(tmp_path, monkeypatch):
    """In a directory that others can write to; the mode would be theirs."""
    monkeypatch.setattr(own_files.secrets, "token_hex", lambda _: "guessed")
    path, planted = tmp_path / "it", tmp_path / ".it.guessed"
    os.mkfifo(planted)
    with pytest.raises(ConfigurationError, match="File exists"):
        own_files.write({path: "text"})
    assert not path.exists()


def test_a_file_is_the_users_alone_whatever_the_umask(tmp_path):
    before = os.umask(0o777)
    try:
        own_files.write({tmp_path / "it": "text"})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "it").stat().st_mode) == 0o600


def test_what_comes_into_being_meanwhile_stays(tmp_path, monkeypatch):
    path = tmp_path / "it"
    fill = own_files.fill

    def slow(draft, text):
        fill(draft, text)
        path.write_text("mine")

    monkeypatch.setattr(own_files, "fill", slow)
    with pytest.raises(ConfigurationError, match="stays as it is"):
        own_files.write({path: "text"})
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_text() == "mine"


def test_a_directory_that_cannot_be_made_is_an_error_that_says_what_to_do(desk):
    """A file in its place: as root, no directory is unwritable."""
    (desk.home / ".codex").touch()
    said = desk.complaint("config", "codex", "--write")
    assert f"cannot write {desk.home / PROFILE}" in said
    assert "leave out --write and paste" in said


def test_a_rehearsal_writes_nothing(desk):
    said = desk.say("config", "codex", "--write", "--dry-run")
    assert said.startswith(f"would write {desk.home / PROFILE}\n")
    assert not (desk.home / ".codex").exists()
    assert "with --write only" in desk.complaint("config", "codex", "--dry-run", code=2)


def test_a_client_without_a_file_of_its_own_is_told_what_to_paste(desk):
    before = desk.tree().keys() | {".local/state/claude-proxy/api-key"}
    said = desk.say("config", "cursor", "--write")
    assert said.startswith("Cursor reads no file that is its own: nothing is written, paste this\n")
    assert "Override OpenAI Base URL" in said
    assert desk.tree().keys() == before
