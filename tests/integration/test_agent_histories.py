"""Agents at random: what reaches Anthropic is what was said, whichever way the turns went.

A client plays an agent for some rounds. What the model says is drawn beforehand and put into the
client's own text as a directive to the simulator. Between rounds the process may be killed, and
the client echoes the model's turns as carelessly as real ones do.
"""

from __future__ import annotations

import copy
import json
import uuid

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.lab import PNG, by_place, function, process_of, text_block, turns_upstream

NAMES = ["Bash", "get_weather", "x"]
TOOLS = [function(name, {"type": "object"}, description=f"the {name}") for name in NAMES]
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
IMAGE_PART = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}

words = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=30)
prose = st.one_of(
    words,
    st.sampled_from(["Let me see.", "a\n\n  b \n", "```py\n    x = 1\n```", "say \"hi\" \\n 'no'"]),
)
values = st.one_of(st.integers(-(2**53), 2**53), words, st.booleans(), st.none())
arguments = st.dictionaries(st.text("abcé", min_size=1, max_size=3), values, max_size=3)
contents = st.one_of(
    words,
    st.lists(st.one_of(words, st.just(IMAGE)), min_size=1, max_size=3),
)
answers = st.tuples(prose, st.lists(st.tuples(st.sampled_from(NAMES), arguments), max_size=3))
echoes = st.sampled_from(["same", "trimmed", "re-serialised", "parts", "re-spelled ids"])


def directive(said: str, calls) -> str:
    """What makes the simulator say that."""
    text = "".join({"\\": "\\\\", '"': '\\"', "\n": "\\n"}.get(c, c) for c in said)
    made = [f'text="{text}"'] if said.strip() or not calls else []
    for name, drawn in calls:
        value = json.dumps(drawn).replace("'", "\\u0027")
        made.append(f"tool={name} input='{value}'")
    return f"[simulate {' '.join(made)}]"


def as_wire(content):
    if isinstance(content, str):
        return content
    return [IMAGE_PART if part is IMAGE else text_block(part) for part in content]


def as_blocks(content):
    parts = [content] if isinstance(content, str) else content
    blocks = [part if part is IMAGE else text_block(part) for part in parts]
    return [b for b in blocks if b["type"] != "text" or b["text"].strip()]


def echoed(message, style):
    """The assistant's message as such a client sends it back, and its ids there for ours."""
    message = copy.deepcopy(
        {key: message[key] for key in ("role", "content", "tool_calls") if key in message}
    )
    calls = message.get("tool_calls", [])
    ids = {call["id"]: call["id"] for call in calls}
    if style == "trimmed":
        message["content"] = (message["content"] or "").strip()
    elif style == "parts" and message["content"]:
        message["content"] = [text_block(message["content"])]
    elif style == "re-serialised":
        for call in calls:
            loaded = json.loads(call["function"]["arguments"])
            call["function"]["arguments"] = json.dumps(dict(reversed(loaded.items())), indent=2)
    elif style == "re-spelled ids":
        ids = {id_: f"{id_[:4]}_{id_[4:]}" for id_ in ids}
        for call in calls:
            call["id"] = ids[call["id"]]
    return message, ids


class Agent:
    """The client's history, and what has to be upstream for it."""

    def __init__(self, daemon, simulator):
        self.daemon, self.simulator = daemon, simulator
        self.tag = f"tag{uuid.uuid4().hex}"
        self.messages, self.turns, self.echoes = [], [], []
        self.rounds = 0

    def say(self, content, then):
        parts = [content] if isinstance(content, str) else list(content)
        self.messages.append({"role": "user", "content": as_wire([*parts, self._note(then)])})
        self._expect("user", as_blocks([*parts, self._note(then)]))

    def answer(self, calls, contents, then):
        blocks = []
        for number, (call, content) in enumerate(zip(calls, contents, strict=True)):
            parts = [content] if isinstance(content, str) else list(content)
            whole = [*parts, self._note(then)] if number == 0 else content
            id_ = call["id"]
            self.messages.append({"role": "tool", "tool_call_id": id_, "content": as_wire(whole)})
            result = {"type": "tool_result", "tool_use_id": id_}
            made = as_blocks(whole)
            blocks.append({**result, "content": made} if made else result)
        self._expect("user", blocks)

    def _note(self, then):
        return f"{self.tag} {self.rounds} {directive(*then)}"

    def ask(self, then, echo):
        """The model's turn; returns its calls as the client knows them."""
        said, calls = then
        answer = self.daemon.chat(self.messages, tools=TOOLS)
        assert answer.status_code == 200, answer.text
        upstream = turns_upstream(self.simulator.requests(f"{self.tag} {self.rounds} ")[-1]["body"])
        self._compare(by_place(upstream), process_of(self.daemon, answer))
        message = answer.json()["choices"][0]["message"]
        assert message["content"] == ((said if said.strip() else None) if calls else said)
        made = message.get("tool_calls", [])
        assert [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in made] == [
            (name, drawn) for name, drawn in calls
        ]
        sent, ids = echoed(message, echo)
        self.messages.append(sent)
        uses = [
            {"type": "tool_use", "id": ids[call["id"]], "name": name, "input": drawn}
            for call, (name, drawn) in zip(made, calls, strict=True)
        ]
        echo = sent["content"] if isinstance(sent["content"], str) else said
        texts = [[text_block(text)] if text.strip() else [] for text in (said, echo)]
        self._expect("assistant", *([*text, *uses] for text in texts))
        self.rounds += 1
        return sent.get("tool_calls", [])

    def _expect(self, role, blocks, echo=None):
        self.turns.append((role, blocks))
        self.echoes.append((role, blocks if echo is None else echo))

    def _compare(self, upstream, process):
        """A process that has said something holds that, another one what the client sent."""
        assert len(upstream) == len(self.turns), (process, upstream)
        turns, echoes = by_place(self.turns), by_place(self.echoes)
        for arrived, said, echo in zip(upstream, turns, echoes, strict=True):
            assert arrived in (said, echo), process


@given(st.data())
@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # each example takes seconds
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_what_arrives_is_what_was_said(daemon, simulator, data):
    agent = Agent(daemon, simulator)
    calls = []
    for _ in range(data.draw(st.integers(1, 5), label="rounds")):
        said, made = data.draw(answers, label="the model")
        then = (said if made or said.strip() else "I see.", made)
        if calls:
            results = [data.draw(contents, label="result") for _ in calls]
            agent.answer(data.draw(st.permutations(calls), label="order"), results, then)
        else:
            agent.say(data.draw(contents, label="the user"), then)
        echo = data.draw(echoes, label="echo")
        if data.draw(st.sampled_from(["go on"] * 4 + ["kill"]), label="meanwhile") == "kill":
            daemon.kill_turns()
        calls = agent.ask(then, echo)
