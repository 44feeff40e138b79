"""Responses that are kept: fetched, continued, referred to, and lost by nothing but time."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sqlite3
import stat

import httpx
import pytest
from openai import NotFoundError, OpenAI
from openai.types import responses as kinds
from openai.types.responses.response_item_list import ResponseItemList

from tests.integration.test_responses import OF_EVENTS, OF_RESPONSE, events_of, response_of
from tests.lab import KEY, process_of, sse, system_upstream, text_block, turns_upstream, wait_until
from tests.openai_types import problems

LOOK = {"type": "function", "name": "look", "parameters": {"type": "object"}}


@pytest.fixture
def client(daemon):
    with OpenAI(base_url=f"{daemon.url}/v1", api_key=KEY, max_retries=0) as made:
        yield made


def texts(body):
    """The words of each turn, the model's too."""
    return [
        "".join(block.get("text", "") for block in blocks) for _, blocks in turns_upstream(body)
    ]


def said(answer):
    return answer.json()["output"][-1]["content"][0]["text"]


def files(daemon):
    directory = daemon.home / ".local/state/claude-proxy"
    return {path.name: path for path in directory.glob("responses.db*")}


def test_a_chain_of_responses_is_one_conversation(daemon, simulator, tag):
    answers = [daemon.respond(f"{tag} [simulate text=one]", instructions="Once.")]
    for word in ("two", "three"):
        previous = answers[-1].json()["id"]
        prompt = f"{tag} [simulate text={word}]"
        answers.append(daemon.respond(prompt, previous_response_id=previous, instructions="Once."))
        assert answers[-1].json()["previous_response_id"] == previous
    assert [process_of(daemon, answer) for answer in answers[1:]] == ["continued"] * 2
    last = simulator.requests(tag)[-1]["body"]
    assert texts(last)[1::2] == ["one", "two"]
    assert len(turns_upstream(last)) == 5


def test_instructions_do_not_carry_over(daemon, simulator, tag):
    first = daemon.respond(tag, instructions="Be brief.").json()
    daemon.respond(f"{tag} on", previous_response_id=first["id"])
    daemon.respond(f"{tag} other", previous_response_id=first["id"], instructions="Be long.")
    prompts = [system_upstream(one["body"]) for one in simulator.requests(tag)]
    assert prompts[0] == ["Be brief."]
    assert "".join(prompts[1]).strip() == ""
    assert prompts[2] == ["Be long."]


def test_system_messages_of_the_input_do_carry_over(daemon, simulator, tag):
    first = daemon.respond(
        [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": tag}]
    ).json()
    daemon.respond(f"{tag} on", previous_response_id=first["id"])
    assert system_upstream(simulator.requests(f"{tag} on")[0]["body"]) == ["Be brief."]


def test_a_conversation_branches_from_any_point(daemon, simulator, tag):
    first = daemon.respond(f"{tag} [simulate text=root]").json()["id"]
    for word in ("left", "right"):
        answer = daemon.respond(f"{tag} [simulate text={word}]", previous_response_id=first)
        tip = daemon.respond(f"{tag} {word}-tip", previous_response_id=answer.json()["id"])
        assert tip.status_code == 200
    for word in ("left", "right"):
        body = simulator.requests(f"{word}-tip")[-1]["body"]
        assert texts(body)[1::2] == ["root", word]


def test_the_tool_loop_works_with_outputs_alone(daemon, simulator, tag):
    first = daemon.respond(f"{tag} [simulate tool=look tool=look]", tools=[LOOK])
    calls = [item["call_id"] for item in first.json()["output"]]
    outputs = [
        {"type": "function_call_output", "call_id": call, "output": f"seen {n}"}
        for n, call in enumerate(calls)
    ]
    second = daemon.respond(outputs, previous_response_id=first.json()["id"], tools=[LOOK])
    assert process_of(daemon, second) == "continued"
    results = turns_upstream(simulator.requests(tag)[-1]["body"])[2][1]
    assert [result["content"] for result in results] == [
        [text_block("seen 0")],
        [text_block("seen 1")],
    ]


def test_a_chain_goes_on_after_a_restart_with_its_reasoning(start, simulator, tag, tmp_path):
    state = {"XDG_STATE_HOME": str(tmp_path)}
    before = start(env=state)
    first = before.respond(f"{tag} [simulate thinking=2 text=one]").json()
    assert before.terminate() == 0
    after = start(env=state)
    assert after.client.get(f"/v1/responses/{first['id']}").json() == first
    after.respond(f"{tag} on", previous_response_id=first["id"])
    user, answer, _ = turns_upstream(simulator.requests(f"{tag} on")[-1]["body"])
    assert user[1][0]["text"].startswith(tag)
    assert [block["type"] for block in answer[1]] == ["thinking", "text"]


def test_an_unknown_response_is_a_404_in_openais_words(client):
    with pytest.raises(NotFoundError) as caught:
        client.responses.create(model="sonnet", input="x", previous_response_id="resp_none")
    assert caught.value.code == "previous_response_not_found"
    assert caught.value.param == "previous_response_id"
    assert "Previous response with id 'resp_none' not found." in str(caught.value)
    for call in (client.responses.retrieve, client.responses.delete, client.responses.cancel):
        with pytest.raises(NotFoundError):
            call("resp_none")
    with pytest.raises(NotFoundError):
        client.responses.input_items.list("resp_none")


def test_it_is_fetched_as_it_was_given_and_deleted_once(client, daemon, tag):
    given = response_of(daemon.respond(f"{tag} [simulate thinking=1 text=hello]"))
    fetched = client.responses.retrieve(given["id"])
    assert fetched.output_text == "hello"
    assert daemon.client.get(f"/v1/responses/{given['id']}").json() == given
    client.responses.delete(given["id"])
    with pytest.raises(NotFoundError):
        client.responses.delete(given["id"])
    with pytest.raises(NotFoundError):
        client.responses.retrieve(given["id"])
    gone = daemon.respond("x", previous_response_id=given["id"])
    assert gone.status_code == 404


def test_what_was_continued_stays_whole_when_its_beginning_is_deleted(daemon, simulator, tag):
    first = daemon.respond(f"{tag} [simulate text=one]").json()["id"]
    second = daemon.respond(f"{tag} [simulate text=two]", previous_response_id=first).json()["id"]
    daemon.client.delete(f"/v1/responses/{first}").raise_for_status()
    daemon.respond(f"{tag} tip", previous_response_id=second).raise_for_status()
    assert texts(simulator.requests(f"{tag} tip")[-1]["body"])[1::2] == ["one", "two"]


def test_its_events_can_be_had_once_more(client, daemon, tag):
    told = "[simulate thinking=2 text='one two' tool=look]"
    given = daemon.respond(f"{tag} {told}", tools=[LOOK], reasoning={"summary": "auto"}).json()
    answer = daemon.client.get(f"/v1/responses/{given['id']}", params={"stream": "true"})
    events = events_of(answer)
    assert events[-1]["response"] == given
    rest = daemon.client.get(
        f"/v1/responses/{given['id']}", params={"stream": "true", "starting_after": 4}
    )
    assert sse(rest.text) == events[5:]
    with client.responses.retrieve(given["id"], stream=True) as stream:
        assert [event.type for event in stream] == [event["type"] for event in events]


@pytest.mark.parametrize("query", ["stream=true&starting_after=x", "stream=1&starting_after="])
def test_a_wrong_query_is_a_400(daemon, tag, query):
    given = daemon.respond(tag).json()["id"]
    answer = daemon.client.get(f"/v1/responses/{given}?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "starting_after")


def test_input_items_come_in_pages(client, daemon, tag):
    items = [{"role": "user", "content": f"{tag} {n}"} for n in range(7)]
    first = daemon.respond(items).json()["id"]
    given = daemon.respond("only this", previous_response_id=first).json()["id"]
    (only,) = client.responses.input_items.list(given).data
    assert only.content[0].text == "only this"
    pages = list(client.responses.input_items.list(first, limit=3, order="asc"))
    assert [item.content[0].text for item in pages] == [f"{tag} {n}" for n in range(7)]
    latest = daemon.client.get(f"/v1/responses/{first}/input_items").json()
    assert problems(latest, ResponseItemList) == []
    assert [item["id"] for item in latest["data"]] == [item.id for item in reversed(pages)]
    for query in ("limit=0", "limit=101", "order=up", "after=msg_none"):
        assert daemon.client.get(f"/v1/responses/{first}/input_items?{query}").status_code == 400


def test_a_reference_is_resolved_once(daemon, tag):
    """A short request must not become an endless one."""
    id_ = daemon.respond(tag, store=False).json()["output"][0]["id"]
    reference = {"type": "item_reference", "id": id_}
    user = {"role": "user", "content": tag}
    answer = daemon.respond([user, reference, reference, user])
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input[2].id")
    assert "Duplicate item" in answer.json()["error"]["message"]


def test_reasoning_is_looked_up_once(daemon, simulator, tag):
    first = daemon.respond(f"{tag} [simulate thinking=2 text=one]").json()["output"]
    user = {"role": "user", "content": tag}
    answer = daemon.respond([user, *first[:1] * 5, first[1], {"role": "user", "content": "on"}])
    assert answer.status_code == 200
    turn = turns_upstream(simulator.requests(tag)[-1]["body"])[1]
    assert [block["type"] for block in turn[1]] == ["thinking", "text"]


@pytest.mark.parametrize("tool", ["look", "patch"])
@pytest.mark.parametrize("stop", ["max_tokens", "refusal"])
def test_nobody_has_to_answer_the_calls_of_an_answer_that_was_cut_off(daemon, tag, tool, stop):
    tools = [LOOK, {"type": "custom", "name": "patch"}]
    told = f'[simulate tool={tool} input=\'{{"input":"x"}}\' tool=look stop={stop}]'
    first = daemon.respond(f"{tag} {told}", tools=tools).json()
    assert first["status"] == "incomplete"
    onward = {"previous_response_id": first["id"], "tools": tools}
    assert daemon.respond("never mind", **onward).status_code == 200
    stateless = [{"role": "user", "content": tag}, *first["output"][1:]]
    last = {"role": "user", "content": "never mind"}
    assert daemon.respond([*stateless, last], tools=tools).status_code == 200


def test_what_cannot_be_kept_is_said(start, tag):
    daemon = start("--store-size", "1M")
    response = response_of(daemon.respond(f"{tag} {'x' * 2**20}"))
    assert response["store"] is False
    daemon.log.wait_for("store.response_lost", response=response["id"])
    assert daemon.client.get(f"/v1/responses/{response['id']}").status_code == 404


def test_a_store_that_another_process_locks_holds_nobody_up_for_long(start, tag):
    daemon = start()
    with contextlib.closing(
        sqlite3.connect(files(daemon)["responses.db"], isolation_level=None)
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        response = response_of(daemon.respond(tag))
        assert response["store"] is False
        assert daemon.respond(tag, store=False).status_code == 200
        other.execute("ROLLBACK")
    assert response_of(daemon.respond(tag))["store"] is True


def test_what_was_deleted_is_in_no_file_any_more(start, tag):
    daemon = start()
    given = daemon.respond(f"{tag} [simulate text=answer-{tag}]").json()["id"]
    assert any(tag.encode() in path.read_bytes() for path in files(daemon).values())
    daemon.client.delete(f"/v1/responses/{given}").raise_for_status()
    assert not any(tag.encode() in path.read_bytes() for path in files(daemon).values())


def test_input_with_fields_that_nobody_knows_is_listed_without_them(daemon, tag):
    part = {"type": "input_text", "text": tag, "a": "TOO LARGE"}
    items = [{"role": "user", "content": [part], "b": "TOO LARGE"}]
    body = json.dumps({"model": "sonnet", "input": items}).replace('"TOO LARGE"', "1e999")
    headers = {"content-type": "application/json"}
    answer = daemon.client.post("/v1/responses", content=body, headers=headers)
    listed = daemon.client.get(f"/v1/responses/{answer.json()['id']}/input_items")
    assert problems(listed.json(), ResponseItemList) == []
    assert listed.json()["data"][0]["content"] == [{"type": "input_text", "text": tag}]


def test_what_is_done_cannot_be_cancelled(daemon, tag):
    given = daemon.respond(tag).json()["id"]
    answer = daemon.client.post(f"/v1/responses/{given}/cancel")
    assert answer.status_code == 400
    assert "synchronous" in answer.json()["error"]["message"]


@pytest.mark.parametrize("store", [True, False])
def test_items_can_be_referred_to_whether_or_not_they_are_stored(daemon, simulator, tag, store):
    first = daemon.respond(f"{tag} [simulate thinking=2 text=one]", store=store).json()
    assert first["store"] is store
    reasoning, message = first["output"]
    answer = daemon.respond(
        [
            {"role": "user", "content": f"{tag} [simulate thinking=2 text=one]"},
            {"type": "item_reference", "id": reasoning["id"]},
            {"id": message["id"]},
            {"role": "user", "content": f"{tag} on"},
        ],
        store=store,
    )
    assert process_of(daemon, answer) == "continued"
    turn = turns_upstream(simulator.requests(f"{tag} on")[0]["body"])[1]
    assert turn[1][-1] == text_block("one")
    fetched = daemon.client.get(f"/v1/responses/{first['id']}")
    assert fetched.status_code == (200 if store else 404)
    assert (
        daemon.respond("x", previous_response_id=first["id"], store=store).status_code
        == fetched.status_code
    )


def test_an_unknown_reference_is_a_404_but_reasoning_can_be_done_without(daemon, tag):
    user = {"role": "user", "content": tag}
    unknown = daemon.respond([{"type": "item_reference", "id": "msg_none"}, user])
    assert unknown.status_code == 404
    assert unknown.json()["error"]["param"] == "input[0].id"
    assert "msg_none" in unknown.json()["error"]["message"]
    assert daemon.respond([{"type": "item_reference", "id": "rs_none"}, user]).status_code == 200


def test_reasoning_that_is_known_by_its_id_comes_back_whole(start, simulator, tag):
    """Some clients send items with their ids, but without what they did not ask for."""
    daemon = start("--keep-alive", "0")
    first = daemon.respond(f"{tag} [simulate thinking=2 text=one]").json()
    assert "encrypted_content" not in first["output"][0]
    daemon.respond(
        [
            {"role": "user", "content": tag},
            *first["output"],
            {"role": "user", "content": f"{tag} on"},
        ]
    )
    turn = turns_upstream(simulator.requests(f"{tag} on")[0]["body"])[1]
    assert [block["type"] for block in turn[1]] == ["thinking", "text"]


def test_without_days_nothing_touches_the_disk(start, tag):
    daemon = start("--store-days", "0")
    first = daemon.respond(f"{tag} [simulate text=one]").json()
    assert first["store"] is False
    assert daemon.client.get(f"/v1/responses/{first['id']}").status_code == 404
    again = daemon.respond(
        [
            {"role": "user", "content": tag},
            {"type": "item_reference", "id": first["output"][0]["id"]},
            {"role": "user", "content": "on"},
        ]
    )
    assert again.status_code == 200
    assert files(daemon) == {}


def test_only_the_user_can_read_the_files(start, tag):
    daemon = start()
    daemon.respond(tag)
    found = files(daemon)
    assert "responses.db" in found
    for path in found.values():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(found["responses.db"].parent.stat().st_mode) == 0o700


def test_unstored_responses_leave_no_word_on_disk(start, tag):
    daemon = start()
    daemon.respond(f"{tag} [simulate text=secret-word]", store=False)
    daemon.chat(f"{tag} [simulate text=secret-word]")
    for path in files(daemon).values():
        assert tag.encode() not in path.read_bytes()


def test_a_response_that_was_seen_whole_outlives_a_sigkill(start, simulator, tag, tmp_path):
    state = {"XDG_STATE_HOME": str(tmp_path)}
    seen = []
    for round_ in range(4):
        daemon = start(env=state)
        for response in seen:
            assert daemon.client.get(f"/v1/responses/{response['id']}").json() == response
        previous = {"previous_response_id": seen[-1]["id"]} if seen else {}
        with daemon.client.stream(
            "POST",
            "/v1/responses",
            json={
                "model": "sonnet",
                "input": f"{tag} [simulate text=answer{round_}]",
                "stream": True,
                **previous,
            },
        ) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: ") and '"response.completed"' in line:
                    seen.append(json.loads(line[6:])["response"])
                    daemon.process.kill()
                    break
        daemon.process.wait(30)
        assert wait_until(lambda daemon=daemon: not daemon.children())
        for directory in daemon.home.glob("claude-proxy-*"):
            shutil.rmtree(directory)
    last = start(env=state)
    last.respond(f"{tag} on", previous_response_id=seen[-1]["id"]).raise_for_status()
    words = texts(simulator.requests(f"{tag} on")[-1]["body"])
    assert words[1::2] == [f"answer{n}" for n in range(4)]


def test_a_broken_file_is_moved_aside_and_said(start, tag, tmp_path):
    directory = tmp_path / "claude-proxy"
    directory.mkdir()
    (directory / "responses.db").write_bytes(b"this is no database, or not any more\n" * 200)
    daemon = start(env={"XDG_STATE_HOME": str(tmp_path)})
    assert daemon.log.wait_for("store.corrupt")["moved_to"].startswith(str(directory))
    first = daemon.respond(tag).json()
    assert daemon.client.get(f"/v1/responses/{first['id']}").json() == first


def test_a_directory_that_cannot_be_used_is_said_and_done_without(start, tag, tmp_path):
    (tmp_path / "file").write_text("")
    daemon = start(env={"STATE_DIRECTORY": str(tmp_path / "file")})
    daemon.log.wait_for("store.unusable")
    response = response_of(daemon.respond(tag))
    assert response["store"] is False


@contextlib.contextmanager
def open_stream(daemon, prompt, **fields):
    body = json.dumps({"model": "sonnet", "stream": True, "input": prompt, **fields}).encode()
    address = httpx.URL(daemon.url)
    head = (
        f"POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((address.host, address.port), timeout=30) as connection:
        connection.sendall(head.encode() + body)
        yield connection


def test_a_client_that_leaves_finds_what_there_was_of_the_answer(start, simulator, tag):
    daemon = start()
    prompt = f"{tag} [simulate text='one two three' tool=look hold={tag} hold_after=2]"
    with open_stream(daemon, prompt, tools=[LOOK]) as connection:
        received = b""
        while b'"delta":"two' not in received:
            received += connection.recv(65_536)
    daemon.log.wait_for("request.done", client_gone=True)
    simulator.release(tag)
    id_ = sse(received.decode())[0]["response"]["id"]
    kept = response_of(daemon.client.get(f"/v1/responses/{id_}"))
    assert kept["status"] == "cancelled"
    (message,) = kept["output"]
    assert message["status"] == "incomplete"
    assert message["content"][0]["text"].split() == ["one", "two"]
    assert kept["usage"]["input_tokens"] > 0
    assert wait_until(lambda: len(daemon.turns()) <= 1)
    daemon.respond(f"{tag} on", previous_response_id=id_, tools=[LOOK]).raise_for_status()
    assert texts(simulator.requests(f"{tag} on")[-1]["body"])[1].split() == ["one", "two"]


@pytest.mark.parametrize("how", ["stream_error=3", "break=3"])
@pytest.mark.parametrize("what", ["text='one two three four five'", "tool=look input_chunk=2"])
def test_a_stream_that_breaks_ends_with_response_failed(daemon, tag, how, what):
    answer = daemon.respond(f"{tag} [simulate {what} {how}]", stream=True, tools=[LOOK])
    *_, error, failed = events_of(answer)
    assert error["type"] == "error"
    assert error["message"] == error["error"]["message"] == failed["response"]["error"]["message"]
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"]["code"] == "server_error"
    assert failed["response"]["usage"]["input_tokens"] > 0
    kept = daemon.client.get(f"/v1/responses/{failed['response']['id']}").json()
    assert kept == failed["response"]


def test_shutting_down_ends_a_stream_with_response_failed(start, simulator, tag):
    daemon = start("--drain-timeout", "0.3")
    prompt = f"{tag} [simulate text='one two' hold={tag} hold_after=1]"
    with open_stream(daemon, prompt) as connection:
        received = b""
        while b'"delta":"one' not in received:
            received += connection.recv(65_536)
        daemon.process.terminate()
        while data := connection.recv(65_536):
            received += data
    simulator.release(tag)
    assert daemon.process.wait(30) == 0
    last = sse(received.decode())[-1]
    assert problems(last, kinds.ResponseStreamEvent, extensions=OF_EVENTS) == []
    assert last["type"] == "response.failed"
    assert last["response"]["usage"] is not None


def test_a_conversation_that_is_sent_whole_each_time_is_kept_once(start, tag):
    """Clients that know nothing of kept responses store them by default, each with everything."""
    daemon = start()
    history = []
    for turn in range(8):
        history.append({"role": "user", "content": f"{tag} {turn} " + "word " * 8_000})
        response = response_of(daemon.respond(history))
        history += response["output"]
    size = sum(path.stat().st_size for path in files(daemon).values())
    assert 8 * 40_000 < size < 3 * 8 * 40_000  # the write-ahead log holds it once more


def test_the_oldest_make_room_and_the_file_stays_small(start, tag):
    daemon = start("--store-size", "1M")
    ids = [
        response_of(daemon.respond(f"{tag} {n} " + os.urandom(100_000).hex()))["id"]
        for n in range(8)
    ]
    found = [daemon.client.get(f"/v1/responses/{id_}").status_code for id_ in ids]
    assert found[0] == 404
    assert found[-1] == 200
    assert found == sorted(found, reverse=True)
    assert files(daemon)["responses.db"].stat().st_size <= 2**20


def test_get_of_a_response_is_strictly_openais(daemon, tag):
    given = daemon.respond(f"{tag} [simulate tool=look]", tools=[LOOK]).json()
    fetched = daemon.client.get(f"/v1/responses/{given['id']}")
    assert fetched.headers["content-type"] == "application/json"
    assert problems(fetched.json(), kinds.Response, extensions=OF_RESPONSE) == []
