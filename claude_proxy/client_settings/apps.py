"""Editors, chats and a gateway: Cursor, Continue, Zed, llm, Open WebUI, LiteLLM."""

from __future__ import annotations

import shlex

from claude_proxy.client_settings import key, programs
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


def cursor(endpoint: Endpoint) -> list[Snippet]:
    text = f"""\
OpenAI API Key             what this prints: {key.line(endpoint)}
Override OpenAI Base URL   https://NAME/v1
Add Custom Model           {", ".join(model.name for model in endpoint.models)}

It is not your machine that asks, but Cursor's servers, and they reach no loopback address. So NAME
is that of a tunnel of yours that ends at {endpoint.url}, and the service must be told of it:
--allow-host NAME. Whoever knows the name is then kept out by the key alone, which Cursor's servers
get to see. A client that runs on this machine needs nothing of that.
"""
    return [Snippet("cursor", "Cursor", "Cursor Settings > Models > API Keys", "text", text)]


def continue_(endpoint: Endpoint) -> list[Snippet]:
    models = "".join(
        f"""\
  - name: {quoted(model.name)}
    provider: openai
    model: {quoted(model.name)}
    apiBase: {quoted(endpoint.openai)}
    apiKey: ${{{{ secrets.{VARIABLE} }}}}
    roles: [chat, edit, apply, summarize]
    capabilities: [tool_use, image_input]
    defaultCompletionOptions:
      contextLength: {model.context}
      maxTokens: {model.output}
"""
        for model in endpoint.models
    )
    file = File(endpoint.directory, "continue.yaml")
    text = f"name: claude-proxy\nversion: 1.0.0\nschema: v1\nmodels:\n{models}"
    run = f"{key.export(endpoint)}cn --config {shell_path(file)}\n"
    keep = f"""\
# The extension finds the key here, and the models when they stand in ~/.continue/config.yaml.
(umask 077; echo "{VARIABLE}={key.shell(endpoint)}" >> ~/.continue/.env)
"""
    return [
        Snippet("continue", "Continue", str(file), "yaml", text, file),
        Snippet("continue", "Continue", SHELL, "sh", run),
        Snippet("continue", "Continue", f"{SHELL}, once, for the extension", "sh", keep),
    ]


def zed(endpoint: Endpoint) -> list[Snippet]:
    """By Anthropic's API. The provider is not called claude-proxy: the variable that Zed makes of
    its name would be one of the program's own, and unknown.
    """
    models = [
        {
            "name": model.name,
            "display_name": f"{model.name} (local)",
            "max_tokens": model.context,
            "max_output_tokens": model.output,
            "capabilities": {"tools": True, "images": True, "prompt_caching": True},
        }
        for model in endpoint.models
    ]
    provider = {"api_url": endpoint.url, "available_models": models}
    text = as_json({"language_models": {"anthropic_compatible": {"local-claude": provider}}})
    run = f'export LOCAL_CLAUDE_API_KEY="{key.shell(endpoint)}"\nzed\n'
    where = "into settings.json (zed: open settings file)"
    return [
        Snippet("zed", "Zed", where, "json", text),
        Snippet("zed", "Zed", f"{SHELL}, or the key into Settings > AI > LLM Providers", "sh", run),
    ]


def llm(endpoint: Endpoint) -> list[Snippet]:
    """It keeps a copy of the key in its own keys.json."""
    text = "".join(
        f"""\
- model_id: {quoted(f"claude-proxy/{model.name}")}
  model_name: {quoted(model.name)}
  api_base: {quoted(endpoint.openai)}
  api_key_name: claude-proxy
  supports_schema: true
  supports_tools: true
  vision: true
"""
        for model in endpoint.models
    )
    file = File("~/.config/io.datasette.llm", "extra-openai-models.yaml", "LLM_USER_PATH")
    run = f"""\
llm keys set claude-proxy --value "{key.shell(endpoint)}"
llm -m {shlex.quote(f"claude-proxy/{endpoint.model}")} 'Hello!'
"""
    return [
        Snippet("llm", "llm", str(file), "yaml", text, file),
        Snippet("llm", "llm", SHELL, "sh", run),
    ]


def open_webui(endpoint: Endpoint) -> list[Snippet]:
    text = f"""\
# They count at its first start; after that, Admin Settings > Connections has them. From within a
# container the address is not this one, unless it runs with --network=host.
export OPENAI_API_BASE_URL={quoted(endpoint.openai)}
export OPENAI_API_KEY="{key.shell(endpoint)}"
open-webui serve
"""
    return [Snippet("open-webui", "Open WebUI", SHELL, "sh", text)]


def litellm(endpoint: Endpoint) -> list[Snippet]:
    body = f"""\
answer = completion(
    model={quoted(f"openai/{endpoint.model}")},
    api_base={quoted(endpoint.openai)},
    api_key=key,
    messages=[{{"role": "user", "content": "Hello!"}}],
)
print(answer.choices[0].message.content)
"""
    imports = "from litellm import completion"
    models = "".join(
        f"""\
  - model_name: {quoted(model.name)}
    litellm_params:
      model: {quoted(f"openai/{model.name}")}
      api_base: {quoted(endpoint.openai)}
      api_key: os.environ/{VARIABLE}
    model_info:
      max_input_tokens: {model.context}
      max_output_tokens: {model.output}
"""
        for model in endpoint.models
    )
    file = File(endpoint.directory, "litellm.yaml")
    run = f"{key.export(endpoint)}litellm --config {shell_path(file)}\n"
    return [
        *programs.python(endpoint, "litellm", "LiteLLM", imports, body),
        Snippet("litellm", "LiteLLM", str(file), "yaml", f"model_list:\n{models}", file),
        Snippet("litellm", "LiteLLM", f"{SHELL}, for its gateway", "sh", run),
    ]
