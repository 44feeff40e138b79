"""Coding agents of the terminal: Codex, opencode, OpenClaw, Cline, aider."""

from __future__ import annotations

import shlex

from claude_proxy.client_settings import key
from claude_proxy.client_settings.snippet import (
    SHELL,
    VARIABLE,
    Endpoint,
    File,
    Snippet,
    as_json,
    quoted,
    shell_path,
)

PROVIDER = "claude-proxy"


def codex(endpoint: Endpoint) -> list[Snippet]:
    """As a profile of its own, which Codex lays over the user's config.toml."""
    program, *words = key.command(endpoint)
    text = f"""\
model = {quoted(endpoint.model)}
model_provider = "{PROVIDER}"
model_context_window = {endpoint.models[0].context}

[model_providers.{PROVIDER}]
name = "{PROVIDER}"
base_url = {quoted(endpoint.openai)}
wire_api = "responses"
# It would ask a service that fails thirty times.
request_max_retries = 1
stream_max_retries = 1

[model_providers.{PROVIDER}.auth]
command = {quoted(program)}
args = [{", ".join(map(quoted, words))}]
"""
    file = File("~/.codex", f"{PROVIDER}.config.toml", "CODEX_HOME")
    return [
        Snippet("codex", "Codex", str(file), "toml", text, file),
        Snippet("codex", "Codex", SHELL, "sh", f"codex --profile {PROVIDER}\n"),
    ]


def opencode(endpoint: Endpoint) -> list[Snippet]:
    """As a file of its own, which opencode lays over the user's opencode.json."""
    reference = f"{{file:{endpoint.key_file}}}" if endpoint.key_file else f"{{env:{VARIABLE}}}"
    models = {
        model.name: {
            "name": model.name,
            "limit": {"context": model.context, "output": model.output},
            "attachment": True,
            "reasoning": True,
            "tool_call": True,
            "modalities": {"input": ["text", "image", "pdf"], "output": ["text"]},
        }
        for model in endpoint.models
    }
    text = as_json(
        {
            "$schema": "https://opencode.ai/config.json",
            "model": f"{PROVIDER}/{endpoint.model}",
            "small_model": f"{PROVIDER}/{endpoint.small}",
            "provider": {
                PROVIDER: {
                    "name": PROVIDER,
                    "npm": "@ai-sdk/openai",
                    "options": {"baseURL": endpoint.openai, "apiKey": reference},
                    "models": models,
                }
            },
        }
    )
    file = File(endpoint.directory, "opencode.jsonc")
    run = f"OPENCODE_CONFIG={shell_path(file)} opencode\n"
    start = run if endpoint.key_file else key.export(endpoint) + run
    return [
        Snippet("opencode", "opencode", str(file), "jsonc", text, file),
        Snippet("opencode", "opencode", SHELL, "sh", start),
    ]


def openclaw(endpoint: Endpoint) -> list[Snippet]:
    """As a patch, which OpenClaw itself puts into the user's openclaw.json."""
    secret = {"source": "env", "provider": "default", "id": VARIABLE}
    secrets = {}
    if endpoint.key_file:
        secret = {"source": "file", "provider": PROVIDER, "id": "value"}
        own = {"source": "file", "path": endpoint.key_file, "mode": "singleValue"}
        secrets = {"secrets": {"providers": {PROVIDER: own}}}
    models = [
        {
            "id": model.name,
            "name": model.name,
            "reasoning": True,
            "input": ["text", "image"],
            "contextWindow": model.context,
            "maxTokens": model.output,
        }
        for model in endpoint.models
    ]
    provider = {
        "baseUrl": endpoint.openai,
        "apiKey": secret,
        "api": "openai-responses",
        "models": models,
    }
    text = as_json(
        {
            "agents": {"defaults": {"model": {"primary": f"{PROVIDER}/{endpoint.model}"}}},
            "models": {"mode": "merge", "providers": {PROVIDER: provider}},
            **secrets,
        }
    )
    file = File(endpoint.directory, "openclaw.json5")
    run = f"openclaw config patch --file {shell_path(file)}\n"
    start = run if endpoint.key_file else key.export(endpoint) + run
    return [
        Snippet("openclaw", "OpenClaw", str(file), "json5", text, file),
        Snippet("openclaw", "OpenClaw", SHELL, "sh", start),
    ]


def cline(endpoint: Endpoint) -> list[Snippet]:
    """The CLI keeps a copy of the key, as the extension does."""
    small = f"{endpoint.models[0].context} (Context Window), {endpoint.models[0].output}"
    dialog = f"""\
API Provider       OpenAI Compatible
Base URL           {endpoint.openai}
OpenAI API Key     what this prints: {key.line(endpoint)}
Model ID           {endpoint.model}
Model Configuration: {small} (Max Output Tokens), Supports Images
"""
    words = ["cline", "auth", "-p", "openai-compatible", "-b", endpoint.openai]
    run = f'{shlex.join([*words, "-m", endpoint.model])} -k "{key.shell(endpoint)}"\n'
    return [
        Snippet("cline", "Cline", SHELL, "sh", run),
        Snippet("cline", "Cline", "the extension's settings", "text", dialog),
    ]


def aider(endpoint: Endpoint) -> list[Snippet]:
    metadata = File(endpoint.directory, "aider.model.metadata.json")
    configuration = File(endpoint.directory, "aider.conf.yml")
    sizes = {
        f"openai/{model.name}": {
            "litellm_provider": "openai",
            "mode": "chat",
            "max_input_tokens": model.context,
            "max_output_tokens": model.output,
            "supports_vision": True,
        }
        for model in endpoint.models
    }
    text = f"""\
model: {quoted(f"openai/{endpoint.model}")}
weak-model: {quoted(f"openai/{endpoint.small}")}
# Of a name that aider does not know it would ask for whole files.
edit-format: diff
openai-api-base: {quoted(endpoint.openai)}
model-metadata-file: {quoted(str(metadata))}
"""
    run = f'OPENAI_API_KEY="{key.shell(endpoint)}" aider --config {shell_path(configuration)}\n'
    return [
        Snippet("aider", "aider", str(configuration), "yaml", text, configuration),
        Snippet("aider", "aider", str(metadata), "json5", as_json(sizes), metadata),
        Snippet("aider", "aider", SHELL, "sh", run),
    ]
