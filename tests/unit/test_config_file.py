"""The configuration file: what TOML may say, and that all but the defaults goes before it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_proxy import small_file
from claude_proxy.api_key import load_api_key
from claude_proxy.command_line import Invocation, as_flags, load
from claude_proxy.config_file import ELSEWHERE, find
from claude_proxy.settings import FLAGS, OPTIONS, ConfigurationError, Settings, UsageError

# For each setting that a file may hold: as TOML, and what the program sees; then another value, as
# text and as the program sees it. None is a default, where there are enough values.
SAMPLES: dict[str, tuple[str, Any, str, Any]] = {
    "host": ('"::1"', "::1", "0.0.0.0", "0.0.0.0"),
    "port": ("1234", 1234, "0", 0),
    "listen": ('["/run/a.sock", "[::1]:1"]', ("/run/a.sock", "[::1]:1"), "/b", ("/b",)),
    "idle_exit": ("90", 90.0, "15min", 900.0),
    "model": ('"opus"', "opus", "haiku", "haiku"),
    "api_key_file": ('"/run/key"', "/run/key", "/other", "/other"),
    "api_keys_file": ('"/run/keys"', "/run/keys", "/other", "/other"),
    "allow_remote": ("true", True, "1", True),
    "allow_host": ('["llm.example", "[::2]"]', ("llm.example", "[::2]"), "b", ("b",)),
    "allow_origin": ('["app://x", "*"]', ("app://x", "*"), "http://b", ("http://b",)),
    "budget": ("{day = 5, month = 20.5}", {"day": 5.0, "month": 20.5}, "1/day", {"day": 1.0}),
    "rate": ("30", 30, "1", 1),
    "claude": ('"/opt/claude"', "/opt/claude", "/other", "/other"),
    "demo": ("true", True, "1", True),
    "model_alias": ('{"GPT-4*" = "opus"}', {"gpt-4*": "opus"}, "x=haiku", {"x": "haiku"}),
    "forward_sampling": ("true", True, "1", True),
    "max_concurrency": ("3", 3, "4", 4),
    "queue": ("0", 0, "1", 1),
    "queue_timeout": ("0.5", 0.5, "90", 90.0),
    "spares": ("2", 2, "3", 3),
    "spare_max_age": ('"1h"', 3_600.0, "2h", 7_200.0),
    "keep_alive": ("0", 0.0, "1", 1.0),
    "max_sessions": ("0", 0, "1", 1),
    "timeout": ('"5min"', 300.0, "1", 1.0),
    "retries": ("0", 0, "1", 1),
    "drain_timeout": ('"250ms"', 0.25, "1", 1.0),
    "max_body_size": ('"2M"', 2 * 2**20, "1024", 1_024),
    "store_days": ("0.5", 0.5, "0", 0.0),
    "store_size": ("67108864", 64 * 2**20, "1M", 2**20),
    "log_level": ('"debug"', "debug", "error", "error"),
    "log_format": ('"json"', "json", "console", "console"),
}
every_setting = pytest.mark.parametrize("name", SAMPLES)
TOML_SAYS_NO = {
    "host": "1",
    "port": '"http"',
    "listen": "1",
    "idle_exit": "true",
    "model": "[]",
    "demo": "1",
    "forward_sampling": '"maybe"',
    "model_alias": '["nothing"]',
    "max_concurrency": "3.5",
    "queue": "-1",
    "timeout": '"soon"',
    "retries": "1979-05-27",
    "max_body_size": '"lots"',
    "log_level": '"loud"',
    "store_size": "{}",
}


@pytest.fixture
def config(tmp_path):
    def config(text: str | bytes) -> str:
        path = tmp_path / "some.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return config


def with_file(path: str, *argv: str, **environ: str) -> Settings:
    return load(["--config", path, *argv], environ).settings


def refusal(path: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        with_file(path)
    message = str(caught.value)
    assert message.isascii()
    assert message.startswith((f"{path}: ", f"cannot read {path}: "))
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def given_as_flag(name: str, text: str) -> list[str]:
    return [OPTIONS[name].flag, *([] if name in FLAGS else [text])]


def test_every_setting_has_a_sample_here_but_those_that_no_file_may_hold():
    assert set(SAMPLES) == set(OPTIONS) - set(ELSEWHERE)


@every_setting
def test_a_file_goes_before_the_default(config, name):
    literal, value, *_ = SAMPLES[name]
    path = config(f"{OPTIONS[name].key} = {literal}")
    assert with_file(path) == Settings(config=path, **{name: value})
    assert getattr(Settings(), name) != value


@every_setting
def test_a_variable_goes_before_the_file(config, name):
    literal, _, text, value = SAMPLES[name]
    path = config(f"{OPTIONS[name].key} = {'false' if name in FLAGS else literal}")
    assert getattr(with_file(path, **{OPTIONS[name].variable: text}), name) == value


@every_setting
def test_a_flag_goes_before_both(config, name):
    literal, in_file, text, value = SAMPLES[name]
    in_variable = {OPTIONS[name].variable: "?"}
    path = config(f"{OPTIONS[name].key} = {'false' if name in FLAGS else literal}")
    settings = with_file(path, *given_as_flag(name, text), **in_variable)
    assert getattr(settings, name) == value
    assert name in FLAGS or in_file != value


def test_all_at_once_and_beside_each_other(config):
    lines = [f"{OPTIONS[name].key} = {sample[0]}" for name, sample in SAMPLES.items()]
    path = config("\n".join(lines))
    values = {name: sample[1] for name, sample in SAMPLES.items()}
    assert with_file(path) == Settings(config=path, **values)
    other = with_file(path, "--queue=9", CLAUDE_PROXY_SPARES="9")
    assert other == Settings(config=path, **values | {"queue": 9, "spares": 9})


@every_setting
def test_a_key_is_written_with_either_stroke(config, name):
    literal, value, *_ = SAMPLES[name]
    assert getattr(with_file(config(f"{name} = {literal}")), name) == value


@every_setting
def test_text_is_read_like_a_variable(config, name):
    """``port = "80"`` and ``demo = "yes"`` are what people write."""
    _, _, text, value = SAMPLES[name]
    assert getattr(with_file(config(f'{OPTIONS[name].key} = "{text}"')), name) == value


@pytest.mark.parametrize(
    "text",
    ['model-alias = "a=b,c=d"', 'model-alias = ["a=b", "c=d"]', '[model-alias]\na = "b"\nC = "d"'],
)
def test_aliases_are_a_text_a_list_or_a_table(config, text):
    assert with_file(config(text)).model_alias == {"a": "b", "c": "d"}


@pytest.mark.parametrize(("name", "literal"), TOML_SAYS_NO.items())
def test_a_wrong_value_is_named_with_file_and_key(config, name, literal):
    key = OPTIONS[name].key
    assert refusal(config(f"{key} = {literal}")).startswith(f"{key}: expected ")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("modle = 'opus'", "unknown setting modle; did you mean model?"),
        ("max_concurency = 1", "unknown setting max_concurency; did you mean max-concurrency?"),
        ("xyzzy = 1", "unknown setting xyzzy; `claude-proxy man` has all of them"),
        ('"grüße\\n" = 1', "unknown setting gr\\xfc\\xdfe\\n; `claude-proxy man` has all of them"),
        ("[listening]\nport = 1", None),
        ("Port = 1", "unknown setting Port; did you mean port?"),
    ],
)
def test_an_unknown_setting_is_named_with_what_may_be_meant(config, text, told):
    message = refusal(config(text))
    assert message.startswith("unknown setting ")
    assert told in (None, message)


@pytest.mark.parametrize("key", ["api-key", "api_key"])
def test_a_key_in_a_file_is_refused_and_not_shown(config, key):
    message = refusal(config(f"{key} = 'sk-secret'"))
    assert "api-key-file" in message
    assert "sk-secret" not in message


def test_a_file_names_no_other_one(config):
    message = refusal(config("config = '/etc/other'"))
    assert message == "a configuration file cannot name another one"


@pytest.mark.parametrize("text", ["port 80", "port = 1\nport = 2", "\0", "a = '", b"a = '\xff'"])
def test_what_is_not_toml_is_told(config, text):
    assert refusal(config(text)).startswith("not TOML: ")


@pytest.mark.parametrize("text", ["queue = " + "[" * 99_999, "queue = " + "9" * 5_000, "{" * 9_999])
def test_what_is_toml_beyond_all_measure_is_told(config, text):
    assert re.match(r"not TOML: .{,250}\Z", refusal(config(text)))


def test_what_is_no_small_file_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(small_file, "PATIENCE", 0.1)
    os.mkfifo(tmp_path / "fifo")
    assert refusal(str(tmp_path / "fifo")).endswith(": nobody writes into it")
    assert refusal("/dev/zero").endswith(": File too large")


def test_a_key_file_whose_name_is_none_is_told_in_one_line(config):
    with pytest.raises(
        ConfigurationError, match=r"^[^\n]+: Invalid argument; its first line [^\n]+\Z"
    ):
        load_api_key(with_file(config('api-key-file = "/run/a\\u0000b"')), {})


def test_a_named_file_must_be_there_and_be_a_file(tmp_path):
    assert refusal(str(tmp_path / "gone")).endswith(": No such file or directory")
    assert refusal(str(tmp_path)).endswith(": Is a directory")
    with pytest.raises(ConfigurationError, match="no-such-user-here"):
        with_file("~no-such-user-here/config.toml")


@pytest.mark.parametrize("environ", [{"HOME": "{}/home"}, {"XDG_CONFIG_HOME": "{}/xdg"}])
def test_the_usual_place_is_in_the_configuration_home(tmp_path, environ):
    environ = {name: value.format(tmp_path) for name, value in environ.items()}
    below = Path(environ.get("XDG_CONFIG_HOME") or Path(environ["HOME"], ".config"))
    usual = below / "claude-proxy" / "config.toml"
    assert load([], environ).settings == Settings()
    usual.parent.mkdir(parents=True)
    usual.write_text("port = 1")
    assert find(None, environ) == usual
    assert load([], environ).settings == Settings(port=1)
    other = tmp_path / "other.toml"
    other.write_text("queue = 1")
    assert load([], {**environ, "CLAUDE_PROXY_CONFIG": str(other)}).settings.port == 8080
    assert load(["--config", os.devnull], environ).settings == Settings(config=os.devnull)
    usual.write_text("nonsense")
    with pytest.raises(ConfigurationError, match=str(usual)):
        load([], environ)


def test_a_home_that_is_no_directory_has_no_usual_place(tmp_path):
    (tmp_path / "file").write_text("")
    assert load([], {"HOME": str(tmp_path / "file")}).settings == Settings()


def test_a_home_is_known_in_a_named_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.toml").write_text("port = 5")
    assert with_file("~/mine.toml").port == 5


@settings(deadline=None)
@given(st.sampled_from(sorted(SAMPLES)), st.text() | st.integers() | st.floats() | st.booleans())
def test_any_value_is_taken_or_refused_in_one_line(tmp_path_factory, name, value):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(f"{OPTIONS[name].key} = {as_toml(value)}", encoding="utf-8", newline="")
    try:
        told = repr(with_file(str(path)))
    except ConfigurationError as error:
        told = str(error)
    assert told == "Settings(...)" or told.startswith(f"{path}: ")
    assert len(told.splitlines()) == 1


def as_toml(value: object) -> str:
    if isinstance(value, str):
        encodable = value.encode("utf-8", "ignore").decode()
        return '"' + "".join(f"\\U{ord(letter):08X}" for letter in encodable) + '"'
    return str(value).lower()


some_flags = st.lists(st.sampled_from(sorted(SAMPLES)), unique=True)


@given(some_flags)
def test_an_invocation_has_its_flags_for_whoever_repeats_them(names):
    argv = [word for name in names for word in given_as_flag(name, SAMPLES[name][2])]
    asked = load(argv, {})
    assert len(asked.flags) == len(names)
    assert load(asked.flags, {}) == asked
    assert load([*asked.flags, "install"], {}).settings == asked.settings


def test_flags_are_repeated_as_they_were_given_whatever_the_environment_says():
    asked = load(["-m", "a b", "--model-alias", "A = B", "--model-alias=c=d"], {"PORT": "1"})
    assert asked.flags == ("--model=a b", "--model-alias=A = B", "--model-alias=c=d")
    assert as_flags({"demo": True, "listen": ["/a", "b:1"], "queue": "3"}) == [
        *("--demo", "--listen=/a", "--listen=b:1", "--queue=3")
    ]


@pytest.mark.parametrize("command", ["install", "uninstall"])
def test_what_changes_the_machine_can_be_rehearsed(command):
    assert load([command, "--dry-run"], {}) == Invocation(Settings(), command, dry_run=True)
    assert load([command], {}) == Invocation(Settings(), command, dry_run=False)


@pytest.mark.parametrize("argv", [[], ["key"], ["status"], ["check"]])
def test_nothing_else_can_be_rehearsed(argv):
    with pytest.raises(UsageError, match="--dry-run"):
        load([*argv, "--dry-run"], {})
