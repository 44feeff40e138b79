"""`journalctl --user`: the fields, the levels, what is too large, and what must never be there."""

from __future__ import annotations

import json
import subprocess

from tests.lab import wait_until
from tests.systemd.service import (
    KEY,
    NAME,
    UPSTREAM_KEY,
    answers_without_journald,
    ask,
    journal,
    systemctl,
)


def journalctl(*arguments: str) -> str:
    command = ["journalctl", "--user", "--no-pager", "-u", "claude-proxy", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_request_is_found_by_its_fields(service, tag):
    service.start()
    answer = ask(service.client(), f"{tag} [simulate text=hello]")
    id_ = answer.headers["x-request-id"]
    done = service.wait_for_record("request.done", f"REQUEST_ID={id_}")
    assert (done["ROUTE"], done["MODEL"], done["STATUS"]) == ("/chat/completions", "sonnet", "200")
    assert (done["PRIORITY"], done["SYSLOG_IDENTIFIER"]) == ("6", "claude-proxy")
    assert done["_SYSTEMD_USER_UNIT"] == NAME
    assert float(done["DURATION_MS"]) >= float(done["TTFT_MS"]) > 0
    assert int(done["INPUT_TOKENS"]) == answer.json()["usage"]["prompt_tokens"]
    assert int(done["OUTPUT_TOKENS"]) == answer.json()["usage"]["completion_tokens"]
    assert float(done["COST_USD"]) > 0
    assert done["SESSION"].startswith("ses_")
    line = json.loads(done["MESSAGE"])
    assert (line["event"], line["request_id"]) == ("request.done", id_)


def test_the_commands_of_the_readme_work(service, tag):
    service.start()
    answer = ask(service.client(key="wrong"), tag)
    id_ = answer.headers["x-request-id"]
    service.wait_for_record("request.done", f"REQUEST_ID={id_}")
    lines = journalctl("-t", "claude-proxy", "-o", "cat").splitlines()
    assert [json.loads(line)["request_id"] for line in lines if id_ in line] == [id_]
    assert id_ not in journalctl("-p", "warning")
    assert id_ in journalctl(f"REQUEST_ID={id_}")


def test_an_upgrade_that_nobody_offers_fills_no_journal(service):
    service.start()
    offer = {"connection": "upgrade", "upgrade": "h2c"}
    answer = service.client().get("/v1/models", headers=offer)
    assert answer.status_code == 200
    service.wait_for_record("request.done", f"REQUEST_ID={answer.headers['x-request-id']}")
    assert not [record for record in service.records() if "LOGGER" in record]


def test_a_record_that_is_too_large_for_a_datagram_arrives(service):
    """The name of a request goes into no record, so a setting's value is what can be that long."""
    long = "x" * 700_000
    config = service.units.parent.parent / "claude-proxy" / "config.toml"
    config.parent.mkdir(parents=True)
    service.start(NAME)
    config.write_text(f'model = "{long}"\n')
    systemctl("reload", NAME)
    reloaded = service.wait_for_record("daemon.reloaded")
    assert json.loads(reloaded["MESSAGE"])["changed"] == {"model": long}
    assert reloaded["PRIORITY"] == "6"


def test_nothing_waits_for_a_journald_that_hangs(service):
    answers_without_journald(service, "freeze", "thaw")


def test_no_key_no_prompt_and_no_answer_is_in_the_journal(service, simulator, tag):
    service.edit(service.flags("--log-level", "debug"))
    service.start()
    client = service.client()
    assert "geheim" in ask(client, f"{tag} [simulate text=geheim{tag}]").text
    assert ask(client, f"{tag} [simulate error=529]").status_code == 503
    assert ask(client, f"{tag} [simulate error=400]").status_code == 400
    ask(service.client(key=f"sk-wrong-{tag}"), tag)
    client.post("/v1/chat/completions", content=f'{{"{tag}"')
    client.post("/v1/responses", json={"model": "sonnet", "input": tag, "tools": [{"type": tag}]})
    client.get(f"/v1/{tag}/unknown?key={KEY}")
    systemctl("kill", "-s", "KILL", NAME)
    assert wait_until(lambda: service.show("NRestarts") == "1")
    systemctl("stop", NAME)
    whole = json.dumps(journal())
    assert "request.done" in whole
    for secret in (tag, KEY, UPSTREAM_KEY):
        assert secret not in whole
