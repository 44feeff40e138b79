"""Programs of one's own, in Python and JavaScript: each a whole one, with a first question."""

from __future__ import annotations

from claude_proxy.client_settings import key
from claude_proxy.client_settings.snippet import Endpoint, Snippet, quoted

YOURS = "your program"


def models(endpoint: Endpoint, mark: str) -> str:
    """A comment: what may stand for the model."""
    lines = [
        f"{mark} {model.name}: {model.context:,} tokens in all, {model.output:,} of them answer"
        for model in endpoint.models
    ]
    return "\n".join([f"{mark} Models:", *lines])


def python(endpoint: Endpoint, client: str, title: str, imports: str, body: str) -> list[Snippet]:
    """``body`` may say ``key``."""
    own, expression = key.python(endpoint)
    text = f"{own}\n\n{imports}\n\nkey = {expression}\n{models(endpoint, '#')}\n{body}"
    return [Snippet(client, title, YOURS, "python", text)]


def javascript(
    endpoint: Endpoint, client: str, title: str, imports: str, body: str
) -> list[Snippet]:
    """``body`` may say ``key``."""
    own, expression = key.javascript(endpoint)
    text = f"{own}\n{imports}\n\nconst key = {expression};\n{models(endpoint, '//')}\n{body}"
    return [Snippet(client, title, f"{YOURS}, an ES module", "javascript", text)]


def openai(endpoint: Endpoint) -> list[Snippet]:
    body = f"""\
client = OpenAI(base_url={quoted(endpoint.openai)}, api_key=key)
answer = client.responses.create(model={quoted(endpoint.model)}, input="Hello!")
print(answer.output_text)
"""
    imports = "from openai import OpenAI"
    return python(endpoint, "openai", "OpenAI SDK for Python", imports, body)


def openai_node(endpoint: Endpoint) -> list[Snippet]:
    body = f"""\
const client = new OpenAI({{ baseURL: {quoted(endpoint.openai)}, apiKey: key }});
const answer = await client.responses.create({{
  model: {quoted(endpoint.model)},
  input: "Hello!",
}});
console.log(answer.output_text);
"""
    imports = 'import OpenAI from "openai";'
    return javascript(endpoint, "openai-node", "OpenAI SDK for Node", imports, body)


def anthropic(endpoint: Endpoint) -> list[Snippet]:
    body = f"""\
client = Anthropic(base_url={quoted(endpoint.url)}, api_key=key)
answer = client.messages.create(
    model={quoted(endpoint.model)},
    max_tokens=4096,
    messages=[{{"role": "user", "content": "Hello!"}}],
)
print("".join(block.text for block in answer.content if block.type == "text"))
"""
    imports = "from anthropic import Anthropic"
    return python(endpoint, "anthropic", "Anthropic SDK for Python", imports, body)


def anthropic_node(endpoint: Endpoint) -> list[Snippet]:
    body = f"""\
const client = new Anthropic({{ baseURL: {quoted(endpoint.url)}, apiKey: key }});
const answer = await client.messages.create({{
  model: {quoted(endpoint.model)},
  max_tokens: 4096,
  messages: [{{ role: "user", content: "Hello!" }}],
}});
for (const block of answer.content) if (block.type === "text") console.log(block.text);
"""
    imports = 'import Anthropic from "@anthropic-ai/sdk";'
    return javascript(endpoint, "anthropic-node", "Anthropic SDK for Node", imports, body)


def vercel(endpoint: Endpoint) -> list[Snippet]:
    body = f"""\
const claude = createOpenAI({{ baseURL: {quoted(endpoint.openai)}, apiKey: key }});
const {{ text }} = await generateText({{
  model: claude({quoted(endpoint.model)}),
  prompt: "Hello!",
  // Summaries of its reasoning, which the SDK expects of OpenAI's names alone:
  providerOptions: {{ openai: {{ forceReasoning: true, reasoningSummary: "auto" }} }},
}});
console.log(text);
"""
    imports = 'import { createOpenAI } from "@ai-sdk/openai";\nimport { generateText } from "ai";'
    return javascript(endpoint, "vercel", "Vercel AI SDK", imports, body)


def langchain(endpoint: Endpoint) -> list[Snippet]:
    body = f"""\
model = ChatOpenAI(
    model={quoted(endpoint.model)},
    base_url={quoted(endpoint.openai)},
    api_key=key,
    use_responses_api=True,
)
print(model.invoke("Hello!").text)
"""
    imports = "from langchain_openai import ChatOpenAI"
    return python(endpoint, "langchain", "LangChain (langchain-openai)", imports, body)


def pydantic_ai(endpoint: Endpoint) -> list[Snippet]:
    imports = """\
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIResponsesModel
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.openai import OpenAIProvider"""
    body = f"""\
model = OpenAIResponsesModel(
    {quoted(endpoint.model)},
    provider=OpenAIProvider(base_url={quoted(endpoint.openai)}, api_key=key),
    # So that its reasoning goes back to it as it was, and not as text:
    profile=OpenAIModelProfile(openai_supports_encrypted_reasoning_content=True),
)
print(Agent(model).run_sync("Hello!").output)
"""
    return python(endpoint, "pydantic-ai", "Pydantic AI", imports, body)


def openai_agents(endpoint: Endpoint) -> list[Snippet]:
    imports = """\
from agents import Agent, OpenAIResponsesModel, Runner, set_tracing_disabled
from openai import AsyncOpenAI"""
    body = f"""\
set_tracing_disabled(True)  # traces would go to OpenAI
client = AsyncOpenAI(base_url={quoted(endpoint.openai)}, api_key=key)
model = OpenAIResponsesModel({quoted(endpoint.model)}, openai_client=client)
print(Runner.run_sync(Agent("Assistant", model=model), "Hello!").final_output)
"""
    return python(endpoint, "openai-agents", "OpenAI Agents SDK for Python", imports, body)
