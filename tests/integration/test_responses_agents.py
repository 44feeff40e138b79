"""The Responses API through OpenAI's Agents SDK: its loops end as they do with OpenAI."""

from __future__ import annotations

import asyncio
import dataclasses
import json

import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel

from tests.lab import KEY, system_upstream, text_block, turns_upstream

agents = pytest.importorskip("agents", reason="the Agents SDK is not there (PyPI: openai-agents)")

QUIET = agents.RunConfig(tracing_disabled=True)


class Weather(BaseModel):
    city: str
    degrees: int


@dataclasses.dataclass
class Place:
    city: str
    degrees: int


@pytest.fixture
def run(daemon):
    """Calls `work` with a maker of agents in a loop of its own."""

    def run(work):
        async def main():
            url = f"{daemon.url}/v1"
            async with AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0) as client:
                model = agents.OpenAIResponsesModel("sonnet", client)
                return await work(lambda **more: agents.Agent("lab", model=model, **more))

        return asyncio.run(asyncio.wait_for(main(), 60))

    return run


@agents.function_tool
def get_weather(city: str) -> str:
    """How it is there; in Rome it makes the model ask about Oslo too."""
    if city == "Rom":
        return '21 degrees in Rom [simulate tool=get_weather input=\'{"city":"Oslo"}\']'
    return f"3 degrees in {city}"


def told_to_look(tag):
    return f"{tag} [simulate text='Let me look.' tool=get_weather input='{{\"city\":\"Rom\"}}']"


def test_a_plain_run(run, simulator, tag):
    prompt = f"{tag} [simulate text='Hello, world.']"

    async def work(agent):
        return await agents.Runner.run(agent(instructions="Be brief."), prompt, run_config=QUIET)

    result = run(work)
    assert result.final_output == "Hello, world."
    (response,) = result.raw_responses
    assert response.response_id.startswith("resp_")
    assert response.usage.input_tokens > 0
    assert response.usage.output_tokens > 0
    (request,) = simulator.requests(tag)
    assert "\n".join(system_upstream(request["body"])) == "Be brief."
    assert turns_upstream(request["body"]) == [("user", [text_block(prompt)])]


def looks(last):
    """The model's two calls and what they gave, up to the turn before the last answer."""
    turns = turns_upstream(last["body"])
    assert [role for role, _ in turns] == ["user", "assistant", "user", "assistant", "user"]
    calls = [block for role, blocks in turns if role == "assistant" for block in blocks]
    assert calls.pop(0) == text_block("Let me look.")
    results = [block for _, blocks in (turns[2], turns[4]) for block in blocks]
    assert [result["tool_use_id"] for result in results] == [call["id"] for call in calls]
    given = ["".join(part["text"] for part in result["content"]) for result in results]
    return [(call["name"], call["input"]["city"]) for call in calls], given


def test_a_loop_with_a_tool(run, simulator, tag):
    async def work(agent):
        looking = agent(tools=[get_weather])
        return await agents.Runner.run(looking, told_to_look(tag), run_config=QUIET)

    result = run(work)
    assert len(result.raw_responses) == 3
    assert 'The tool said: "3 degrees in Oslo"' in result.final_output
    requests = simulator.requests(tag)
    assert len(requests) == 3
    assert [tool["name"] for tool in requests[0]["body"]["tools"]] == ["get_weather"]
    called, given = looks(requests[-1])
    assert called == [("get_weather", "Rom"), ("get_weather", "Oslo")]
    assert given[0].startswith("21 degrees in Rom ")
    assert given[1] == "3 degrees in Oslo"


def test_a_streamed_run(run, simulator, tag):
    async def work(agent):
        looking = agent(tools=[get_weather])
        running = agents.Runner.run_streamed(looking, told_to_look(tag), run_config=QUIET)
        return running, [event async for event in running.stream_events()]

    result, events = run(work)
    raw = [event.data for event in events if event.type == "raw_response_event"]
    text = [event.delta for event in raw if event.type == "response.output_text.delta"]
    assert len(text) > 5
    assert "".join(text) == f"Let me look.{result.final_output}"
    assert 'The tool said: "3 degrees in Oslo"' in result.final_output
    assert [event.type for event in raw].count("response.completed") == 3
    arguments = [e for e in raw if e.type == "response.function_call_arguments.done"]
    assert [json.loads(event.arguments)["city"] for event in arguments] == ["Rom", "Oslo"]
    happened = [event.name for event in events if event.type == "run_item_stream_event"]
    said, looked = "message_output_created", ["tool_called", "tool_output"]
    assert happened == [said, *looked, *looked, said]
    called, _ = looks(simulator.requests(tag)[-1])
    assert called == [("get_weather", "Rom"), ("get_weather", "Oslo")]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Weather, {"city": "Rom", "degrees": 21}),
        # what is no model of pydantic's is wrapped by the SDK
        (Place, {"response": {"city": "Rom", "degrees": 21}}),
    ],
)
def test_a_run_with_a_type_for_its_output(run, simulator, tag, kind, said):
    prompt = f"{tag} [simulate tool=StructuredOutput input='{json.dumps(said)}']"

    async def work(agent):
        return await agents.Runner.run(agent(output_type=kind), prompt, run_config=QUIET)

    assert run(work).final_output == kind(city="Rom", degrees=21)
    (request,) = simulator.requests(tag)
    (tool,) = request["body"]["tools"]
    assert tool["input_schema"] == agents.AgentOutputSchema(kind).json_schema()


def test_runs_chained_by_the_id_of_a_response(run, simulator, tag):
    first, second = f"{tag} one [simulate text='Four.']", f"{tag} two [simulate text='Five.']"

    async def work(agent):
        counting = agent(instructions="Count.")
        begun = await agents.Runner.run(counting, first, run_config=QUIET)
        return begun, await agents.Runner.run(
            counting, second, previous_response_id=begun.last_response_id, run_config=QUIET
        )

    begun, ended = run(work)
    assert (begun.final_output, ended.final_output) == ("Four.", "Five.")
    assert begun.last_response_id != ended.last_response_id
    _, request = simulator.requests(tag)
    assert "\n".join(system_upstream(request["body"])) == "Count."
    assert turns_upstream(request["body"]) == [
        ("user", [text_block(first)]),
        ("assistant", [text_block("Four.")]),
        ("user", [text_block(second)]),
    ]
