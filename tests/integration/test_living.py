"""Conversations that live on in their process, and those that must be replayed into another."""

from __future__ import annotations

import itertools
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from openai import OpenAI

from tests.lab import (
    KEY,
    by_place,
    function,
    process_of,
    system_upstream,
    text_block,
    turns_upstream,
    wait_until,
)

LOOK = [function("look", {"type": "object", "properties": {"n": {"type": "integer"}}})]
SAID = 'def f():\n    return [1,  2]\n\nThat is "all".'


def user(text):
    return {"role": "user", "content": text}


def said(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]


def begin(daemon, tag, text=SAID, **fields):
    """A conversation of one turn, and the model's answer."""
    quoted = text.replace("\n", "\\n").replace('"', '\\"')
    prompt = f'{tag} first [simulate text="{quoted}"]'
    history = [{"role": "system", "content": "Be brief."}, user(prompt)]
    answer = said(daemon.chat(history, **fields))
    assert answer["content"] == text
    return [*history, answer]


def test_only_what_is_new_is_sent(daemon, simulator, tag):
    history = begin(daemon, tag)
    for n in range(3):
        history.append(user(f"{tag} more{n}"))
        answer = daemon.chat(history)
        assert process_of(daemon, answer) == "continued"
        history.append(said(answer))
    requests = [request["body"] for request in simulator.requests(tag)]
    assert len(requests) == 4
    for earlier, later in itertools.pairwise(requests):
        held = turns_upstream(earlier)
        assert turns_upstream(later)[: len(held)] == held
    assert [role for role, _ in turns_upstream(requests[-1])] == ["user", "assistant"] * 3 + [
        "user"
    ]
    assert system_upstream(requests[-1]) == ["Be brief."]


ECHOES = {
    "as it was": lambda text: text,
    "trimmed": lambda text: f"\n {text}  \n",
    "other line ends": lambda text: text.replace("\n", "\r\n"),
    "blank lines dropped": lambda text: text.replace("\n\n", "\n"),
    "re-spaced": lambda text: text.replace("  2", " 2").replace("\n\n", "  \n\n\n"),
    "as parts": lambda text: [
        {"type": "text", "text": text[:9]},
        {"type": "text", "text": text[9:]},
    ],
}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
def test_a_careless_echo_goes_on_with_what_the_model_really_said(daemon, simulator, tag, echo):
    history = begin(daemon, tag)
    history[-1] = {"role": "assistant", "content": echo(SAID), "reasoning_content": "x"}
    answer = daemon.chat([*history, user(f"{tag} next")])
    assert process_of(daemon, answer) == "continued"
    (request,) = simulator.requests(f"{tag} next")
    assert turns_upstream(request["body"])[1] == ("assistant", [text_block(SAID)])


EDITS = {
    "other words": lambda h: h[-1].update(content=SAID.replace("all", "some")),
    "other indentation": lambda h: h[-1].update(content=SAID.replace("    return", "return")),
    "lines joined": lambda h: h[-1].update(content=SAID.replace("\n    ", " ")),
    "other question": lambda h: h[1].update(content=h[1]["content"] + " "),
    "other system prompt": lambda h: h[0].update(content="Be long."),
    "a turn left out": lambda h: h.pop(),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edited_history_is_replayed_exactly(daemon, simulator, tag, edit):
    history = begin(daemon, tag)
    edit(history)
    answer = daemon.chat([*history, user(f"{tag} next")])
    assert answer.status_code == 200, answer.text
    assert process_of(daemon, answer) != "continued"
    (request,) = simulator.requests(f"{tag} next")
    roles = [role for role, _ in turns_upstream(request["body"])]
    expected = [m for m in history if m["role"] == "assistant"]
    arrived = [blocks for role, blocks in turns_upstream(request["body"]) if role == "assistant"]
    assert arrived == [[text_block(m["content"])] for m in expected]
    assert roles[-1] == "user"
    assert system_upstream(request["body"]) == [history[0]["content"]]


@pytest.mark.parametrize(
    "fields",
    [{"model": "haiku"}, {"tools": LOOK}, {"response_format": {"type": "json_object"}}],
    ids=["model", "tools", "schema"],
)
def test_another_model_other_tools_or_another_format_is_a_replay(daemon, simulator, tag, fields):
    history = begin(daemon, tag)
    answer = daemon.chat([*history, user(f"{tag} next")], **fields)
    assert answer.status_code == 200, answer.text
    assert process_of(daemon, answer) != "continued"
    (request,) = simulator.requests(f"{tag} next")
    assert turns_upstream(request["body"])[1] == ("assistant", [text_block(SAID)])
    if "model" in fields:
        assert "haiku" in request["body"]["model"]


def test_options_may_change_from_turn_to_turn(daemon, simulator, tag):
    history = begin(daemon, tag, max_tokens=500, reasoning_effort="high", stop=["END"])
    answer = daemon.chat([*history, user(f"{tag} next")])
    assert process_of(daemon, answer) == "continued"
    history += [user(f"{tag} next"), said(answer), user(f"{tag} last")]
    assert process_of(daemon, daemon.chat(history, reasoning_effort="none")) == "continued"
    first, second, third = (request["body"] for request in simulator.requests(tag))
    assert (first["max_tokens"], first["output_config"]["effort"]) == (500, "high")
    assert first["stop_sequences"] == ["END"]
    assert second["max_tokens"] > 500
    assert second["output_config"]["effort"] == "medium"
    assert "stop_sequences" not in second
    assert ("thinking" in second, "thinking" in third) == (True, False)


def test_turns_of_another_model_are_put_behind(daemon, simulator, tag):
    """Somebody else has answered in between; the process is told and goes on."""
    history = begin(daemon, tag)
    history += [user("what else?"), {"role": "assistant", "content": "Nothing."}]
    answer = daemon.chat([*history, user(f"{tag} next")])
    assert process_of(daemon, answer) == "continued"
    (request,) = simulator.requests(f"{tag} next")
    assert turns_upstream(request["body"])[2:] == [
        ("user", [text_block("what else?")]),
        ("assistant", [text_block("Nothing.")]),
        ("user", [text_block(f"{tag} next")]),
    ]


@pytest.mark.parametrize("held", [False, True], ids=["idle", "holding a call"])
def test_a_process_that_died_between_two_turns_is_not_noticed(start, simulator, tag, held):
    daemon = start("--spares", "1")
    prompt = f"{tag} [simulate {'tool=look' if held else 'text=yes'}]"
    message = said(daemon.chat(prompt, tools=LOOK))
    history = [user(prompt), message]
    if held:
        (call,) = message["tool_calls"]
        history.append({"role": "tool", "tool_call_id": call["id"], "content": f"{tag} seen"})
    else:
        history.append(user(f"{tag} seen"))
    daemon.kill_turns()
    answer = daemon.chat(history, tools=LOOK)
    assert answer.status_code == 200, answer.text
    turns = turns_upstream(simulator.requests(tag)[-1]["body"])
    assert [role for role, _ in turns] == ["user", "assistant", "user"]
    assert f"{tag} seen" in json.dumps(turns[2])
    assert len(simulator.requests(tag)) == 2


def test_two_branches_at_once_are_both_right(start, simulator, tag):
    daemon = start("--spares", "2")
    history = begin(daemon, tag)
    branches = [f"{tag} branch{n}" for n in range(4)]
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda b: daemon.chat([*history, user(b)]), branches))
    for branch, answer in zip(branches, answers, strict=True):
        assert branch in said(answer)["content"]
        (request,) = simulator.requests(branch)
        turns = turns_upstream(request["body"])
        assert [role for role, _ in turns] == ["user", "assistant", "user"]
        assert turns[1:] == [("assistant", [text_block(SAID)]), ("user", [text_block(branch)])]
    sources = [process_of(daemon, answer) for answer in answers]
    assert sources.count("continued") == 1


def test_results_with_a_message_behind_them_are_a_replay(daemon, simulator, tag):
    """As one client does in every step of its loop."""
    context = user("internal context")
    prompt = user(f"{tag} [simulate tool=look]")
    message = said(daemon.chat([prompt, context], tools=LOOK))
    (call,) = message["tool_calls"]
    result = {"role": "tool", "tool_call_id": call["id"], "content": "seen"}
    answer = daemon.chat([prompt, message, result, context], tools=LOOK)
    assert answer.status_code == 200, answer.text
    assert process_of(daemon, answer) != "continued"
    turns = turns_upstream(simulator.requests(tag)[-1]["body"])
    assert turns[0] == ("user", [text_block(prompt["content"])])
    assert turns[2][1][1] == text_block("internal context")


def test_after_its_time_a_process_ends_and_the_conversation_is_replayed(start, simulator, tag):
    daemon = start("--spares", "0", "--keep-alive", "1s")
    history = begin(daemon, tag)
    assert len(daemon.turns()) == 1
    assert wait_until(lambda: not daemon.turns(), 15)
    answer = daemon.chat([*history, user(f"{tag} next")])
    assert process_of(daemon, answer) == "started"
    (request,) = simulator.requests(f"{tag} next")
    assert turns_upstream(request["body"])[1] == ("assistant", [text_block(SAID)])


def test_a_call_that_is_answered_too_late_for_its_process_is_replayed(start, simulator, tag):
    daemon = start("--spares", "0", "--keep-alive", "1s")
    prompt = f"{tag} [simulate text=Hm. tool=look]"
    message = said(daemon.chat(prompt, tools=LOOK))
    assert wait_until(lambda: not daemon.turns(), 15)
    (call,) = message["tool_calls"]
    result = {"role": "tool", "tool_call_id": call["id"], "content": f"{tag} seen"}
    answer = daemon.chat([user(prompt), message, result], tools=LOOK)
    assert process_of(daemon, answer) == "started"
    first, second = (turns_upstream(r["body"]) for r in simulator.requests(tag))
    assert second[0] == first[0]
    use = {"type": "tool_use", "id": call["id"], "name": "look"}
    assert second[1] == (
        "assistant",
        [text_block("Hm."), use | {"input": second[1][1][1]["input"]}],
    )
    assert second[2][1][0]["content"] == [text_block(f"{tag} seen")]
    ended = daemon.log.wait_for("claude.ended")
    assert ended["cost_usd"] > 0, "what a call that nobody answered has cost is known"


@pytest.mark.parametrize("flags", [("--keep-alive", "0"), ("--max-sessions", "0")])
def test_it_can_be_switched_off(start, tag, flags):
    daemon = start("--spares", "0", *flags)
    history = begin(daemon, tag)
    assert wait_until(lambda: not daemon.turns(), 5)
    assert process_of(daemon, daemon.chat([*history, user(f"{tag} next")])) == "started"


def test_the_least_recently_used_makes_room(start, simulator, tag):
    daemon = start("--spares", "0", "--max-sessions", "2")
    histories = [begin(daemon, f"{tag} {n}") for n in range(2)]
    again = daemon.chat([*histories[0], user("again")])
    assert process_of(daemon, again) == "continued"
    histories[0] += [user("again"), said(again)]
    begin(daemon, f"{tag} 2")
    assert wait_until(lambda: len(daemon.turns()) == 2, 5)
    assert process_of(daemon, daemon.chat([*histories[0], user("more")])) == "continued"
    assert process_of(daemon, daemon.chat([*histories[1], user("more")])) == "started"


def test_health_counts_them(start, tag):
    daemon = start("--spares", "0")
    begin(daemon, tag)

    def sessions():
        health = daemon.client.get("/health", headers={"accept": "application/json"})
        return health.json()["sessions"]

    assert wait_until(lambda: sessions() == {"running": 0, "living": 1, "spare": 0})


def test_a_daemon_that_stops_takes_them_along(start, tag):
    daemon = start("--spares", "0")
    begin(daemon, tag)
    prompt = f"{tag} [simulate tool=look]"
    said(daemon.chat(prompt, tools=LOOK))
    assert len(daemon.turns()) == 2
    assert daemon.terminate() == 0
    assert not daemon.children()


def test_a_replay_finds_what_the_turn_before_wrote_in_the_cache(start, simulator, tag):
    daemon = start("--keep-alive", "0")
    history = [
        {"role": "system", "content": "word " * 3_000},
        user(f"{tag} [simulate text='{'a ' * 500}']"),
    ]
    cached = []
    for n in range(4):
        answer = daemon.chat(history)
        cached.append(answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"])
        history += [
            said(answer),
            user(f"{tag} {n} {'question ' * 300} [simulate text='{'b ' * 300}']"),
        ]
    assert cached[0] == 0
    assert cached[1] >= 3_000
    for earlier, later in itertools.pairwise(cached):
        assert later >= earlier + 300
    for request in simulator.requests(tag):
        marks = json.dumps(request["body"]).count('"cache_control"')
        assert marks <= 4


def test_thirty_steps_of_an_agent_through_the_official_client(daemon, simulator, tag):
    """Streamed and not in turn; every step after the first goes on in the same process."""
    before = len(daemon.log.records("request.done"))
    with OpenAI(base_url=f"{daemon.url}/v1", api_key=KEY, max_retries=0) as client:
        messages = [{"role": "system", "content": "word " * 3_000}, user(step(tag, 0))]
        cached = []
        for n in range(1, 31):
            completion = complete(client, messages, stream=bool(n % 2))
            message = completion.choices[0].message
            cached.append(completion.usage.prompt_tokens_details.cached_tokens)
            assert completion.choices[0].finish_reason == "tool_calls"
            (call,) = message.tool_calls
            assert json.loads(call.function.arguments) == {"n": n - 1}
            messages += [
                message.model_dump(exclude_none=True, include={"role", "content", "tool_calls"}),
                {"role": "tool", "tool_call_id": call.id, "content": step(tag, n)},
            ]
        final = complete(client, messages, stream=False).choices[0]
    assert final.finish_reason == "stop"

    def done():
        return daemon.log.records("request.done")[before:]

    assert wait_until(lambda: len(done()) == 31)
    assert [record["process"] for record in done()][1:] == ["continued"] * 30
    assert sorted(cached) == cached
    requests = simulator.requests(tag)
    assert len(requests) == 31
    turns = by_place(turns_upstream(requests[-1]["body"]))
    assert turns == by_place(as_turns(messages[1:]))


def step(tag, n):
    calls = f"[simulate text='Step {n}.' tool=look input='{{\"n\":{n}}}']" if n < 30 else ""
    return f"{tag} {n} {calls}"


def complete(client, messages, *, stream):
    given = {"model": "sonnet", "messages": messages, "tools": LOOK}
    if not stream:
        return client.chat.completions.create(**given)
    with client.chat.completions.stream(**given, stream_options={"include_usage": True}) as events:
        return events.get_final_completion()


def as_turns(messages):
    turns = []
    for message in messages:
        if message["role"] == "assistant":
            uses = [
                {
                    "type": "tool_use",
                    "id": call["id"],
                    "name": call["function"]["name"],
                    "input": json.loads(call["function"]["arguments"]),
                }
                for call in message["tool_calls"]
            ]
            turns.append(("assistant", [text_block(message["content"]), *uses]))
        elif message["role"] == "tool":
            result = {"type": "tool_result", "tool_use_id": message["tool_call_id"]}
            turns.append(("user", [{**result, "content": [text_block(message["content"])]}]))
        else:
            turns.append(("user", [text_block(message["content"])]))
    return turns
