"""The texts for clients: whole, of the right form, and without a key."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib

import pytest

from claude_proxy.claude.context import Size, size_of
from claude_proxy.client_settings import CLIENTS, Endpoint, Model, all_for
from claude_proxy.client_settings import key as key_reference

KEY = "sk-never-shown"
MODELS = [Model("opus", 1_000_000, 128_000), Model("haiku", 200_000, 64_000)]
ODD = 'a "quoted" $HOME/`x`/\\back/ünï'


@pytest.fixture
def by_file(tmp_path) -> Endpoint:
    path = tmp_path / ODD.replace("/", "-") / "key"
    path.parent.mkdir()
    path.write_text(f"{KEY}\n")
    return Endpoint("http://127.0.0.1:8099", MODELS, str(path), directory=str(tmp_path / ODD))


@pytest.fixture
def by_command(tmp_path) -> Endpoint:
    words = (sys.executable, "-c", f"print({KEY!r})", ODD)
    return Endpoint("http://[::1]:1", MODELS, key_command=words, directory=str(tmp_path / ODD))


@pytest.fixture(params=["by_file", "by_command"])
def endpoint(request) -> Endpoint:
    return request.getfixturevalue(request.param)


def test_every_client_is_told_where_the_service_is(by_file):
    said = {}
    for snippet in all_for(by_file):
        said[snippet.client] = said.get(snippet.client, "") + snippet.text
    assert list(said) == list(CLIENTS)
    assert [client for client, text in said.items() if by_file.url not in text] == []
    assert [client for client, text in said.items() if KEY in text] == []


def test_every_client_that_takes_them_has_the_models_and_their_sizes(by_file):
    without = {"cursor", "llm", "open-webui", "cline"}  # names alone, or one model
    for client, render in CLIENTS.items():
        text = "".join(snippet.text for snippet in render(by_file)).replace(",", "")
        if client == "codex":
            assert "model_context_window = 1000000" in text
        elif client not in without:
            assert {"opus", "haiku", "1000000", "128000", "200000", "64000"} <= set(
                re.findall(r"\w+", text)
            ), client


def test_texts_have_the_form_of_their_language(endpoint):
    for snippet in all_for(endpoint):
        assert snippet.text.endswith("\n")
        assert not snippet.text.endswith("\n\n")
        match snippet.language:
            case "json" | "jsonc" | "json5":
                assert isinstance(json.loads(snippet.text), dict)
            case "toml":
                assert tomllib.loads(snippet.text)["model"] == "opus"
            case "python":
                compile(snippet.text, snippet.client, "exec")
            case "sh":
                checked = subprocess.run(
                    ["/bin/sh", "-n"], input=snippet.text, text=True, check=True, stderr=-1
                )
                assert checked.stderr == ""
            case _:
                assert snippet.language in {"yaml", "javascript", "text"}


def test_a_file_is_named_as_the_place_it_goes_to(by_file):
    files = [snippet for snippet in all_for(by_file) if snippet.file]
    assert {snippet.client for snippet in files} == {
        *("openclaw", "continue", "codex", "opencode", "aider", "llm", "litellm"),
    }
    assert [snippet.where for snippet in files] == [str(snippet.file) for snippet in files]


def test_a_shell_finds_the_key(endpoint):
    text = f'{key_reference.export(endpoint)}printf %s "$PROXY_API_KEY"'
    assert subprocess.check_output(["/bin/sh", "-euc", text], text=True) == KEY
    assert shlex.split(key_reference.line(endpoint)) == key_reference.command(endpoint)


def test_python_finds_the_key(endpoint):
    own, expression = key_reference.python(endpoint)
    program = f"{own}\nprint({expression})"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == f"{KEY}\n"


def test_codex_runs_what_prints_the_key(endpoint):
    file, _ = CLIENTS["codex"](endpoint)
    auth = tomllib.loads(file.text)["model_providers"]["claude-proxy"]["auth"]
    printed = subprocess.check_output([auth["command"], *auth["args"]], text=True)
    assert printed.strip() == KEY


def test_clients_that_read_the_key_from_a_file_do_else_from_a_variable(by_file, by_command):
    def of(client, endpoint):
        return "".join(snippet.text for snippet in CLIENTS[client](endpoint))

    for client in ("opencode", "openclaw"):
        assert "export PROXY_API_KEY=" not in of(client, by_file)
        assert "PROXY_API_KEY" in of(client, by_command)
        assert "export PROXY_API_KEY=" in of(client, by_command)


def test_no_variable_for_a_client_is_one_that_the_program_refuses(endpoint):
    """It takes a misspelt CLAUDE_PROXY_... for an error."""
    for snippet in all_for(endpoint):
        assert re.search(r"\bCLAUDE_PROXY_", snippet.text) is None
    (zed, _) = CLIENTS["zed"](endpoint)
    (provider,) = json.loads(zed.text)["language_models"]["anthropic_compatible"]
    assert not provider.upper().startswith("CLAUDE")


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ("sonnet", Size(1_000_000, 128_000)),
        ("claude-opus-5-5", Size(1_000_000, 128_000)),
        ("claude-haiku-4-5-20251001", Size(200_000, 64_000)),
        ("claude-sonnet-4-6", Size(200_000, 128_000)),
        ("claude-sonnet-4-6[1m]", Size(1_000_000, 128_000)),
        ("Claude-Opus-4-1-20250805", Size(200_000, 32_000)),
        ("something-new", Size(1_000_000, 128_000)),
    ],
)
def test_sizes_are_those_of_anthropics_model_pages(model, size):
    assert size_of(model) == size
