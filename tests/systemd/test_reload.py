"""`systemctl --user reload`: what is read again, what is refused, what goes on meanwhile."""

from __future__ import annotations

import pytest

from tests.lab import sse, wait_until
from tests.systemd.service import HOME, KEY, NAME, Stream, ask, held, systemctl

CONFIG = HOME / ".config" / "claude-proxy" / "config.toml"


@pytest.fixture
def config():
    CONFIG.parent.mkdir(parents=True, exist_ok=True)

    def write(*lines: str) -> None:
        CONFIG.write_text("\n".join(lines) + "\n")

    return write


def ask_for(client, model: str) -> int:
    body = {"model": model, "messages": [{"role": "user", "content": "[simulate text=ok]"}]}
    return client.post("/v1/chat/completions", json=body).status_code


def test_a_good_configuration_is_put_in_force(service, config):
    key = HOME / ".config" / "claude-proxy" / "key"
    config(f'api-key-file = "{key}"')
    key.write_text("sk-before\n")
    del service.environment["PROXY_API_KEY"]
    service.edit()
    service.start()
    old, new = service.client(key="sk-before"), service.client(key="sk-after")
    assert ask_for(old, "gpt-4o") == 404
    assert ask_for(new, "sonnet") == 401
    pid = service.pid

    key.write_text("sk-after\n")
    config(
        f'api-key-file = "{key}"',
        "max-concurrency = 3",
        'log-level = "debug"',
        "port = 9",
        "[model-alias]",
        '"gpt-*" = "sonnet"',
    )
    systemctl("reload", NAME)
    reloaded = service.wait_for_record("daemon.reloaded")
    assert service.pid == pid
    assert service.show("ActiveState") == "active"
    assert '"max_concurrency": 3' in reloaded["CHANGED"]
    assert "sk-" not in reloaded["MESSAGE"]
    left = service.wait_for_record("daemon.needs_restart")
    assert left["NOTE"] == "a reload leaves port alone"
    assert ask_for(old, "sonnet") == 401
    assert ask_for(new, "gpt-4o") == 200
    assert service.wait_for_record("claude.started")["PRIORITY"] == "7"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('max-concurrency = "many"', "config.toml: max-concurrency: "),
        ("max-concurrencies = 1", "unknown setting max-concurrencies; did you mean"),
        ("max-concurrency =", "not TOML"),
        ('api-key-file = "/nonexistent"', "cannot read the key file /nonexistent"),
    ],
)
def test_a_bad_configuration_is_refused_and_the_old_one_stays(service, config, text, reason):
    config('model-alias = ["gpt-4o=sonnet"]')
    if text.startswith("api-key"):
        del service.environment["PROXY_API_KEY"]
        service.edit()
    service.start(NAME)
    pid = service.pid
    config(text)
    systemctl("reload", NAME)
    refused = service.wait_for_record("daemon.reload_refused")
    assert reason in refused["REASON"]
    assert refused["PRIORITY"] == "3"
    assert service.pid == pid
    assert service.show("ActiveState") == "active"
    if "PROXY_API_KEY" in service.environment:
        assert ask_for(service.client(), "gpt-4o") == 200


def test_running_answers_are_untouched(service, simulator, config, tag):
    service.start()
    stream = held(service, simulator, tag)
    config("max-concurrency = 1", "spares = 0", "max-sessions = 0", "timeout = 1")
    systemctl("reload", NAME)
    service.wait_for_record("daemon.reloaded")
    waiting = Stream(service.client(), f"{tag}second [simulate text=later]")
    service.wait_for_status("1 running", "1 queued")
    simulator.release(tag)
    assert sse(stream.finish())[-1] == "[DONE]"
    assert sse(waiting.finish())[-1] == "[DONE]"
    assert wait_until(lambda: "running" not in service.status)


def test_the_key_of_a_flag_or_variable_stays(service):
    service.start(NAME)
    systemctl("reload", NAME)
    assert service.wait_for_record("daemon.reloaded")["KEY_FROM"] == "flag or environment"
    assert ask(service.client(key=KEY), "[simulate text=ok]").status_code == 200
