"""Settings: defaults < environment < flags, and one clear line for whatever is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.command_line import Invocation, build_parser, load
from claude_proxy.settings import (
    DURATIONS,
    FLAGS,
    OPTIONS,
    ConfigurationError,
    Option,
    Settings,
    UsageError,
)
from claude_proxy.values import convert

SECRET = "sk-super-secret"

# For each option: what the user writes, and what the program sees. Neither is a default.
SAMPLES: dict[str, tuple[str, Any]] = {
    "config": ("/dev/null", "/dev/null"),
    "host": ("::1", "::1"),
    "listen": ("/run/a.sock", ("/run/a.sock",)),
    "idle_exit": ("15min", 900.0),
    "port": ("0", 0),
    "model": ("opus", "opus"),
    "api_key": (SECRET, SECRET),
    "api_key_file": ("/run/key", "/run/key"),
    "api_keys_file": ("/run/keys", "/run/keys"),
    "allow_remote": ("yes", True),
    "allow_host": ("Llm.Example", ("llm.example",)),
    "allow_origin": ("https://Chat.example:8443", ("https://chat.example:8443",)),
    "budget": ("$2.50/week", {"week": 2.5}),
    "rate": ("30", 30),
    "claude": ("/opt/claude", "/opt/claude"),
    "demo": ("yes", True),
    "model_alias": ("GPT-4*=opus", {"gpt-4*": "opus"}),
    "forward_sampling": ("1", True),
    "max_concurrency": ("3", 3),
    "queue": ("0", 0),
    "queue_timeout": ("90", 90.0),
    "spares": ("2", 2),
    "spare_max_age": ("1h", 3_600.0),
    "keep_alive": ("0", 0.0),
    "max_sessions": ("0", 0),
    "timeout": ("5min", 300.0),
    "retries": ("0", 0),
    "drain_timeout": ("250ms", 0.25),
    "max_body_size": ("2M", 2 * 2**20),
    "store_days": ("0", 0.0),
    "store_size": ("64M", 64 * 2**20),
    "log_level": ("debug", "debug"),
    "log_format": ("json", "json"),
}
every_option = pytest.mark.parametrize("option", OPTIONS.values(), ids=lambda option: option.name)
valued_options = pytest.mark.parametrize(
    "option",
    [option for option in OPTIONS.values() if option.name not in FLAGS],
    ids=lambda option: option.name,
)


def loaded(*argv: str, **environ: str) -> Settings:
    asked = load(argv, environ)
    assert asked.command == "serve"
    return asked.settings


def refusal(*argv: str, **environ: str) -> str:
    with pytest.raises(UsageError) as caught:
        load(argv, environ)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


def flags(option: Option, text: str) -> tuple[str, ...]:
    return (option.flag,) if option.name in FLAGS else (option.flag, text)


def test_without_flags_and_variables_all_are_defaults():
    assert loaded() == Settings()


def test_every_setting_is_an_option_with_a_sample_here():
    assert set(OPTIONS) == set(Settings.__struct_fields__) == set(SAMPLES)


@every_option
def test_every_option_has_a_variable(option):
    text, value = SAMPLES[option.name]
    assert getattr(loaded(**{option.variable: text}), option.name) == value


@every_option
def test_every_option_has_a_flag(option):
    text, value = SAMPLES[option.name]
    assert getattr(loaded(*flags(option, text)), option.name) == value


@every_option
def test_a_flag_wins_over_its_variable_right_or_wrong(option):
    text, value = SAMPLES[option.name]
    settings = loaded(*flags(option, text), **{option.variable: "?"})
    assert getattr(settings, option.name) == value


@every_option
def test_an_empty_variable_counts_as_unset(option):
    assert loaded(**{option.variable: ""}) == Settings()


@every_option
def test_help_names_the_flag_and_the_variable(option):
    words = build_parser().format_help().replace("[", " ").replace("]", " ").split()
    assert option.flag in words
    assert option.variable in words


def test_variables_that_others_know_keep_their_names():
    names = {"HOST": "host", "PORT": "port", "CLAUDE_MODEL": "model", "PROXY_API_KEY": "api_key"}
    assert {option.variable: option.name for option in OPTIONS.values() if option.env} == names


def test_the_model_has_a_short_flag():
    assert loaded("-m", "haiku").model == "haiku"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("host", ""),
        ("port", "http"),
        ("port", "-1"),
        ("port", "65536"),
        ("port", "80.5"),
        ("model", ""),
        ("api_key_file", ""),
        ("model_alias", "gpt-4"),
        ("model_alias", "=opus"),
        ("model_alias", "gpt-4="),
        ("max_concurrency", "0"),
        ("queue", "-1"),
        ("queue_timeout", "0"),
        ("timeout", "soon"),
        ("timeout", "2 days"),
        ("timeout", "-1"),
        ("timeout", "nan"),
        ("spare_max_age", "25h"),
        ("retries", "11"),
        ("max_body_size", "1"),
        ("max_body_size", "1.5"),
        ("max_body_size", "3G"),
        ("max_body_size", "lots"),
        ("log_level", "loud"),
        ("log_level", "INFO"),
        ("log_format", "xml"),
    ],
)
def test_a_wrong_value_is_refused_naming_flag_or_variable_and_value(name, text):
    option = OPTIONS[name]
    from_flag = refusal(f"{option.flag}={text}")
    assert from_flag.startswith(f"{option.flag}: expected ")
    assert repr(text)[1:-1] in from_flag
    if text:
        assert refusal(**{option.variable: text}) == from_flag.replace(
            f"{option.flag}:", f"{option.variable}:", 1
        )


def test_a_wrong_choice_is_told_the_right_ones():
    message = refusal("--log-level=loud")
    assert message == "--log-level: expected one of debug, info, warning, error, got 'loud'"


@pytest.mark.parametrize("text", ["maybe", "2", "ja", " "])
@pytest.mark.parametrize("name", sorted(FLAGS))
def test_a_switch_in_a_variable_is_true_or_false(name, text):
    variable = OPTIONS[name].variable
    assert refusal(**{variable: text}).startswith(f"{variable}: expected true or false, got ")


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", True), ("TRUE", True), ("on", True), ("0", False), ("No", False), ("off", False)],
)
def test_a_switch_in_a_variable_takes_the_usual_words(text, value):
    assert loaded(CLAUDE_PROXY_DEMO=text).demo is value


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("CLAUDE_PROXY_TIMEOUTS", "; did you mean CLAUDE_PROXY_TIMEOUT?"),
        ("CLAUDE_PROXY_LOGLEVEL", "; did you mean CLAUDE_PROXY_LOG_LEVEL?"),
        ("CLAUDE_PROXY_", None),
    ],
)
def test_a_misspelt_variable_of_ours_is_refused_with_a_hint(variable, hint):
    message = refusal(**{variable: SECRET})
    assert message.startswith(f"unknown environment variable {variable}")
    assert hint is None or message.endswith(hint)
    assert SECRET not in message


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("CLAUDE_PROXY_API_KEY", "PROXY_API_KEY"),
        ("CLAUDE_PROXY_PORT", "PORT"),
        ("CLAUDE_PROXY_HOST", "HOST"),
        ("CLAUDE_PROXY_MODEL", "CLAUDE_MODEL"),
    ],
)
def test_a_variable_with_our_prefix_too_much_is_told_the_right_name(variable, meant):
    assert refusal(**{variable: "x"}).endswith(f"; did you mean {meant}?")


def test_variables_of_others_are_left_alone():
    assert loaded(CLAUDE_CODE_X="1", PROXY_HOST="x", claude_proxy_port="y") == Settings()


@pytest.mark.parametrize(
    "argv",
    [
        ("--api-key", SECRET, "--port", "x"),
        (f"--api-key={SECRET}", "--nonsense"),
        ("--api-key", SECRET, "nonsense"),
        ("--api-kye", SECRET),
        (f"--api-kye={SECRET}",),
        ("--api_key", SECRET),
        ("--api-key", f"--{SECRET}"),
    ],
    ids=lambda argv: " ".join(argv).replace(SECRET, "SECRET"),
)
def test_no_message_shows_the_key_of_a_command_line(argv):
    assert SECRET not in refusal(*argv)


def test_no_message_shows_the_key_of_the_environment():
    assert SECRET not in refusal("--port=x", PROXY_API_KEY=SECRET)


def test_an_empty_key_is_refused_by_name():
    assert refusal("--api-key=").startswith("--api-key: expected ")


@every_option
def test_a_variable_that_is_not_utf8_is_taken_or_refused_in_one_line(option):
    not_utf8 = b"\xff".decode(errors="surrogateescape")
    try:
        settings = loaded(**{option.variable: not_utf8})
    except UsageError as refusal:
        told = str(refusal)
        assert told.startswith(f"{option.variable}: ")
    except ConfigurationError as refusal:  # there is no such file
        told = str(refusal)
        assert option.name == "config"
    else:
        told = f"{getattr(settings, option.name)}"
    assert told
    assert "\n" not in told


UNITS = {"": 1, "s": 1, "ms": 0.001, "m": 60, "min": 60, "h": 3_600, " S": 1, "Min": 60}


@given(
    name=st.sampled_from(sorted(DURATIONS)),
    number=st.integers(1, 24) | st.decimals("0.1", 24, places=1),
    unit=st.sampled_from(sorted(UNITS)),
)
def test_durations_are_seconds_whatever_the_unit(name, number, unit):
    settings = loaded(OPTIONS[name].flag, f"{number}{unit}")
    assert getattr(settings, name) == pytest.approx(float(number) * UNITS[unit])


@given(
    number=st.integers(1, 2_000),
    unit=st.sampled_from(["k", "K", "kb", "KiB", "m", "M", "MB", "mib", "MiB"]),
)
def test_sizes_are_bytes_whatever_the_unit(number, unit):
    factor = {"k": 2**10, "m": 2**20}[unit[0].lower()]
    assert loaded(f"--max-body-size={number}{unit}").max_body_size == number * factor


def test_aliases_may_be_repeated_and_later_ones_win():
    settings = loaded("--model-alias", "A = B", "--model-alias=c=d=e", "--model-alias=a=z")
    assert settings.model_alias == {"a": "z", "c": "d=e"}


def test_aliases_in_the_variable_are_separated_by_commas():
    settings = loaded(CLAUDE_PROXY_MODEL_ALIAS="gpt-4*=opus, x=haiku")
    assert settings.model_alias == {"gpt-4*": "opus", "x": "haiku"}


def test_the_key_command_is_told_from_serving():
    assert load(["key"], {}).command == "key"
    asked = load(["--api-key-file", "/k", "key"], {})
    assert asked == Invocation(
        Settings(api_key_file="/k"), "key", dry_run=False, flags=("--api-key-file=/k",)
    )


@valued_options
def test_flags_are_not_abbreviated_and_need_their_value(option):
    assert option.flag in refusal(option.flag)
    assert refusal(f"{option.flag[:-1]}=1")


@pytest.mark.parametrize("host", ["cafe:80", "a:80", "1:2", "127.0.0.1:80", "[a:b]", "::g"])
def test_a_host_with_a_port_is_none_even_if_it_looks_like_an_address(host):
    with pytest.raises(UsageError, match="without scheme and port"):
        convert("allow_host", [host], "--allow-host")
