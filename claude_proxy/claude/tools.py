"""The client's tools on the CLI: natively, under the client's names, held until it answers. Pure.

Measured with CLI 2.1.248 and 2.1.330. The CLI runs tools of MCP servers only, and an MCP server
distorts them: it cuts a description at 4,096 characters, sorts by name and rewrites schemas. So
the API sees the client's tools as they are through ``CLAUDE_CODE_EXTRA_BODY``, and behind them is
one MCP tool, RELAY, to which ``toolAliases`` leads every call, whatever its name: also one that
Claude Code has a tool of its own for, whose name would draw reminders into the prompt.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from claude_proxy.claude.stream_json import Json
from claude_proxy.conversation import Conversation, Tool, ToolUse

SERVER = "client"
RELAY = "call"
STRUCTURED_OUTPUT = "StructuredOutput"
GATE = "after-tools"
API_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
# Above 500,000 characters (its ceiling) the CLI puts a result into a file and a note in its place.
LONGEST_RESULT = 400_000
MCP_PROTOCOL = "2025-11-25"
SERVER_INFO: Json = {
    "protocolVersion": MCP_PROTOCOL,
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "claude-proxy", "version": "1"},
}
TOOL_LIST: Json = {
    "tools": [
        {
            "name": RELAY,
            "description": "",
            "inputSchema": {"type": "object"},
            # Read-only tools are called at once, so that results may come in any order.
            "annotations": {"readOnlyHint": True},
            "_meta": {"anthropic/maxResultSizeChars": 500_000},
        }
    ]
}


class ToolNames:
    """The API's names for the client's and back; most are the same."""

    def __init__(self, conversation: Conversation) -> None:
        self._to_api: dict[str, str] = {}
        self._to_client: dict[str, str] = {}
        offered = [tool.name for tool in conversation.tools]
        taken = {STRUCTURED_OUTPUT} if conversation.schema is not None else set()
        self._plain = {name for name in offered if API_NAME.fullmatch(name)} - taken
        self._taken = taken | self._plain
        for name in offered:
            self._to_client[self.to_api(name)] = name

    def to_api(self, name: str) -> str:
        """Also for tools of the past, which are not offered any more."""
        if name not in self._to_api:
            fits = name in self._plain or (
                API_NAME.fullmatch(name) is not None and name not in self._taken
            )
            self._to_api[name] = name if fits else self._made(name)
            self._taken.add(self._to_api[name])
        return self._to_api[name]

    def to_client(self, name: str) -> str:
        return self._to_client.get(name, name)

    @property
    def offered(self) -> frozenset[str]:
        """As the API knows them."""
        return frozenset(self._to_client)

    def _made(self, name: str) -> str:
        """The same for a name in every conversation, for the sake of the prompt cache."""
        readable = re.sub(r"[^a-zA-Z0-9_-]+", "_", name)[:64]
        salt = 0
        while True:
            digest = hashlib.sha256(f"{salt}:{name}".encode(errors="surrogatepass")).hexdigest()
            made = f"{readable}_{digest[:8]}"
            if made not in self._taken:
                return made
            salt += 1


def definitions(conversation: Conversation, names: ToolNames) -> list[Json]:
    """The API's ``tools``; a JSON Schema goes out as the text that came in."""
    tools = [definition(tool, names.to_api(tool.name)) for tool in conversation.tools]
    if conversation.schema is not None and not must_call_any(conversation):
        answer = Tool(STRUCTURED_OUTPUT, conversation.schema, STRUCTURED_OUTPUT_DESCRIPTION)
        tools.append(definition(answer, STRUCTURED_OUTPUT))
    return tools


def must_call_any(conversation: Conversation) -> bool:
    """Any of the client's, that is, of which the tool for a structured answer is none."""
    wanted = conversation.options.tool_choice
    return wanted.use is ToolUse.REQUIRED and wanted.name is None


STRUCTURED_OUTPUT_DESCRIPTION = (
    "Gives the final answer in the structure that was asked for. The final answer must be given "
    "by calling this tool, exactly once, and not as text."
)


def definition(tool: Tool, name: str) -> Json:
    if tool.native is not None:
        return {**msgspec.json.decode(tool.native, type=dict[str, msgspec.Raw]), "name": name}
    described = {"description": tool.description} if tool.description else {}
    return {"name": name, **described, "input_schema": msgspec.Raw(tool.schema.encode())}


def choice(conversation: Conversation, names: ToolNames) -> Json | None:
    """The API's ``tool_choice``; None is its default."""
    wanted = conversation.options.tool_choice
    serial = {} if wanted.parallel else {"disable_parallel_tool_use": True}
    if not conversation.tools:
        return None
    if wanted.use is ToolUse.NONE:
        # The tool for a structured answer is none of the client's.
        structured = {"type": "tool", "name": STRUCTURED_OUTPUT}
        return {"type": "none"} if conversation.schema is None else structured
    if wanted.name is not None:
        return {"type": "tool", "name": names.to_api(wanted.name), **serial}
    if wanted.use is ToolUse.REQUIRED:
        return {"type": "any", **serial}
    return {"type": "auto", **serial} if serial else None


def forced(chosen: Json | None) -> bool:
    """The API takes no forced call together with thinking."""
    return chosen is not None and chosen["type"] in ("any", "tool")


def registration(names: ToolNames) -> Json:
    """What ``initialize`` is told; CLIs that do not know the manifest ask for what is in it.

    The hook makes the CLI ask after every round of tools before it goes to the API again: the one
    place where a round that is not the client's to answer can be stopped before it costs.
    """
    gate: Json = {"hooks": {"PostToolBatch": [{"hookCallbackIds": [GATE]}]}}
    if not names.offered:
        return gate
    manifest = {"initializeResult": SERVER_INFO, "toolsListResult": TOOL_LIST}
    return {
        **gate,
        "sdkMcpServers": [SERVER],
        "sdkMcpServerConfigs": {SERVER: {"disableAutoBackground": True}},
        "sdkMcpServerManifests": {SERVER: manifest},
        "toolAliases": dict.fromkeys(sorted(names.offered), RELAY),
    }


def serve(message: Mapping[str, Any]) -> Json:
    """The MCP server's JSON-RPC answer to anything but ``tools/call``."""
    reply: Json = {"jsonrpc": "2.0", "id": message.get("id", 0)}
    match message.get("method"):
        case "initialize":
            parameters = message.get("params")
            given = parameters if isinstance(parameters, dict) else {}
            version = given.get("protocolVersion", MCP_PROTOCOL)
            return {**reply, "result": {**SERVER_INFO, "protocolVersion": version}}
        case "tools/list":
            return {**reply, "result": TOOL_LIST}
        case "ping" | "notifications/initialized" | "notifications/cancelled":
            return {**reply, "result": {}}
        case _:
            return {**reply, "error": {"code": -32601, "message": "Method not found"}}


def is_plain_result(block: Json) -> bool:
    """Whether the CLI passes a tool result on as it is. The texts of a failure it runs together
    (2.1.332).
    """
    content = mcp_content(block.get("content", ()))
    if content is None or not block.get("is_error"):
        return content is not None
    return len(content) == 1 and content[0]["type"] == "text"


def mcp_content(blocks: Iterable[Json]) -> list[Json] | None:
    """A tool result's blocks as MCP has them; None for what the CLI would not pass on unchanged.

    That is (2.1.330) one without any text, for which it writes a sentence of its own, one above
    LONGEST_RESULT, and what MCP has no form for.
    """
    content: list[Json] = []
    size = 0
    for block in blocks:
        match block:
            case {"type": "text", "text": text}:
                size += len(text)
                content.append({"type": "text", "text": text})
            case {"type": "image", "source": {"type": "base64", **source}}:
                image = {"data": source["data"], "mimeType": source["media_type"]}
                content.append({"type": "image", **image})
            case _:
                return None
    return content if content and size <= LONGEST_RESULT else None
