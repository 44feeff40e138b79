"""The API's checks of a request: 400 with a message that names the path, 404 for a model.

Messages are worded like the API's, for clients that look for words in them. Paths are dotted, like
`messages.1.content.0`.
"""

from __future__ import annotations

import re
from typing import TypeGuard

from claude_proxy.simulator.cache import LIFETIMES
from claude_proxy.simulator.conversation import check_messages, check_text
from claude_proxy.simulator.errors import ApiError, invalid, required
from claude_proxy.simulator.prompt import Json, marked, thinks

MAX_MARKS = 4
MIN_THINKING_TOKENS = 1024
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")


def check(body: object, *, counting: bool = False) -> Json:
    """The body if it is a valid request, else ApiError. `counting`: for count_tokens, where
    `max_tokens` is not needed."""
    if not isinstance(body, dict):
        raise invalid("Input should be a valid dictionary")
    _model(body)
    if not counting or "max_tokens" in body:
        _max_tokens(body)
    check_messages(body)
    _system(body)
    _tools(body)
    _thinking(body)
    _tool_choice(body)
    _output_format(body)
    _sampling(body)
    _marks(body)
    if not body["model"].startswith("claude-"):
        raise ApiError(404, f"model: {body['model']}")
    return body


def _model(body: Json) -> None:
    if not isinstance(required(body, "model", "model"), str) or not body["model"]:
        raise invalid("model: Input should be a valid string")


def _max_tokens(body: Json) -> None:
    count = required(body, "max_tokens", "max_tokens")
    if not _is_int(count):
        raise invalid("max_tokens: Input should be a valid integer")
    if count < 1:
        raise invalid("max_tokens: Input should be greater than or equal to 1")


def _system(body: Json) -> None:
    system = body.get("system")
    if isinstance(system, list):
        for index, block in enumerate(system):
            if not isinstance(block, dict) or block.get("type") != "text":
                raise invalid(f"system.{index}: Input should be a text block")
            check_text(block.get("text"), f"system.{index}.text")
    elif system is not None and not isinstance(system, str):
        raise invalid("system: Input should be a valid string or list")


def _tools(body: Json) -> None:
    tools = body.get("tools") or []
    if not isinstance(tools, list):
        raise invalid("tools: Input should be a valid list")
    names = set()
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise invalid(f"tools.{index}: Input should be a valid dictionary")
        path = f"tools.{index}.{tool.get('type') or 'custom'}"
        name = required(tool, "name", f"{path}.name")
        if not isinstance(name, str) or not _TOOL_NAME.fullmatch(name):
            raise invalid(f"{path}.name: String should match pattern '^{_TOOL_NAME.pattern}$'")
        if name in names:
            raise invalid("tools: Tool names must be unique.")
        names.add(name)
        if tool.get("type") in (None, "custom"):
            _input_schema(tool, f"{path}.input_schema")


def _input_schema(tool: Json, path: str) -> None:
    schema = required(tool, "input_schema", path)
    if not isinstance(schema, dict):
        raise invalid(f"{path}: Input should be a valid dictionary")
    if schema.get("type") != "object":
        raise invalid(f"{path}.type: Input should be 'object'")


def _tool_choice(body: Json) -> None:
    choice = body.get("tool_choice")
    if choice is None:
        return
    if not isinstance(choice, dict) or choice.get("type") not in ("auto", "any", "tool", "none"):
        raise invalid("tool_choice: Input should have the type 'auto', 'any', 'tool' or 'none'")
    if choice["type"] not in ("any", "tool"):
        return
    names = [tool["name"] for tool in body.get("tools") or ()]
    if not names:
        raise invalid("tool_choice: tool_choice may only be specified while providing tools.")
    if choice["type"] == "tool" and choice.get("name") not in names:
        raise invalid(f"tool_choice: Tool '{choice.get('name')}' not found in provided tools")
    if thinks(body):
        raise invalid("tool_choice: Thinking may not be enabled when tool_choice forces tool use.")


def _thinking(body: Json) -> None:
    thinking = body.get("thinking")
    if thinking is None:
        return
    kinds = ("enabled", "disabled", "adaptive")
    if not isinstance(thinking, dict) or thinking.get("type") not in kinds:
        raise invalid("thinking: Input should have the type 'enabled', 'disabled' or 'adaptive'")
    if thinking["type"] != "enabled":
        return
    budget = thinking.get("budget_tokens")
    if not _is_int(budget) or budget < MIN_THINKING_TOKENS:
        raise invalid("thinking.enabled.budget_tokens: Input should be at least 1024")
    if budget >= body.get("max_tokens", budget + 1):
        raise invalid("`max_tokens` must be greater than `thinking.budget_tokens`.")


def _output_format(body: Json) -> None:
    config = body.get("output_config")
    if config is None:
        return
    if not isinstance(config, dict):
        raise invalid("output_config: Input should be a valid dictionary")
    form = config.get("format")
    if form is None:
        return
    if not isinstance(form, dict) or form.get("type") != "json_schema":
        raise invalid("output_config.format: Input should have the type 'json_schema'")
    if not isinstance(form.get("schema"), dict):
        raise invalid("output_config.format.schema: Field required")


def _sampling(body: Json) -> None:
    for name in ("temperature", "top_p"):
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise invalid(f"{name}: range: 0..1")
    if thinks(body) and body.get("temperature") not in (None, 1):
        raise invalid("`temperature` may only be set to 1 when thinking is enabled or adaptive.")
    sequences = body.get("stop_sequences") or []
    if not isinstance(sequences, list):
        raise invalid("stop_sequences: Input should be a valid list")
    for index, sequence in enumerate(sequences):
        if not isinstance(sequence, str) or not sequence.strip():
            raise invalid(f"stop_sequences.{index}: each stop sequence must contain non-whitespace")


def _marks(body: Json) -> None:
    marks = [block["cache_control"] for block in marked(body) if block.get("cache_control")]
    if body.get("cache_control"):
        marks.append(body["cache_control"])
    for mark in marks:
        if not isinstance(mark, dict) or mark.get("type") != "ephemeral":
            raise invalid("cache_control: Input should have the type 'ephemeral'")
        if mark.get("ttl") not in (None, *LIFETIMES):
            raise invalid("cache_control.ephemeral.ttl: Input should be '5m' or '1h'")
    if len(marks) > MAX_MARKS:
        raise invalid(
            f"A maximum of {MAX_MARKS} blocks with cache_control may be provided. "
            f"Found {len(marks)}."
        )


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
