"""The page at ``/`` in a real browser, with a stand-in for the CLI behind it."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest

from tests.browser.chromium import Tab
from tests.lab import KEY, Daemon

FAKE = str(Path(__file__).parents[1] / "fakes" / "claude")
CHEAP = ("--claude", FAKE, "--spares", "0")
SHAPES = {"desk": (1280, 900, False), "phone": (320, 640, True)}
# As markup it would show; in the names of a client, which the proxy holds to letters, none can be.
ALIAS = "<script>alert(1)</script>"
TARGET = "<img/src=x/onerror=document.title='hacked'>"
LIVE = "document.getElementById('state').dataset.kind === 'live'"
# systemd names the one process that it means by its id, which only that process knows.
ACTIVATE = 'exec 3<&"$0"; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'


@pytest.fixture(scope="module")
def daemon():
    running = Daemon(
        *CHEAP,
        *("--budget", "1000/month", "--model-alias", f"{ALIAS}=sonnet"),
        *("--model-alias", f"strange={TARGET}"),
    )
    running.chat("limit")
    running.chat("hello", model="strange")
    yield running
    running.close()


def unlock(tab: Tab, url: str, key: str = KEY) -> None:
    tab.open(url)
    tab.until("document.activeElement.id === 'key'")
    tab.type(key)
    tab.press("Enter")


@pytest.fixture
def page(tab, daemon):
    """Open, and without a complaint in its console at the end."""
    unlock(tab, f"{daemon.url}/")
    tab.until(LIVE)
    yield tab
    assert tab.complaints == []


def ask(page: Tab, prompt: str) -> None:
    """By keyboard."""
    page.run("document.getElementById('prompt').focus()")
    page.run("document.getElementById('prompt').value = ''")
    page.type(prompt)
    page.press("Enter", control=True)


def test_the_key_opens_it_is_kept_in_the_tab_and_forgotten_there(tab, chromium, daemon):
    unlock(tab, f"{daemon.url}/", "sk-wrong")
    tab.until("document.getElementById('key-problem').innerText.includes('Incorrect API key')")
    assert tab.run("document.getElementById('overview').hidden")
    assert tab.run("document.activeElement.id") == "key"
    tab.type(KEY)
    tab.press("Enter")
    tab.until(LIVE)
    assert tab.run("[document.cookie, localStorage.length, sessionStorage.length]") == ["", 0, 1]
    tab.open(f"{daemon.url}/?again")
    tab.until(LIVE)
    other = chromium.tab()
    other.open(f"{daemon.url}/")
    other.until("document.activeElement.id === 'key'")
    other.close()
    tab.run("document.getElementById('forget').click()")
    tab.until("document.activeElement.id === 'key'")
    assert tab.run("sessionStorage.length") == 0
    assert [one for one in tab.complaints if "401" not in one] == []


def test_it_shows_the_service_its_limits_models_and_requests(page, daemon):
    page.until("document.getElementById('service').innerText.includes('ogged in')")
    assert "of 8 at a time" in page.text("#figures")
    assert page.run("document.querySelector('[role=meter]').ariaLabel") == "5 hours"
    assert page.run("document.querySelector('[role=meter]').ariaValueText") == "100 %, used up"
    assert "Budget per month" in page.text("#limits")
    names = page.run("[...document.querySelectorAll('#models code')].map((one) => one.innerText)")
    assert {"haiku", "sonnet", "opus", ALIAS} <= set(names)
    assert page.run("document.querySelectorAll('#model option').length") == len(names)
    assert "429 rate_limit_exceeded" in page.text("#requests")
    assert page.run("document.querySelectorAll('.plot .day').length") == 1
    assert page.run("document.querySelector('.plot').getAttribute('aria-label')").startswith("Bars")
    assert {url.removeprefix(daemon.url) for url in page.asked} == {
        *("/", "/v1/overview", "/v1/client_settings", "/page/page.css", "/page/icon.svg"),
        *(f"/page/{name}.js" for name in ("page", "clients", "dom", "plot", "prompt", "show")),
        *(f"/page/{name}.js" for name in ("stream", "watch", "words")),
    }


def test_it_follows_what_happens_elsewhere(page, daemon):
    """The focus stays where it is, in a table that is another one."""
    page.size(1280, 900)
    page.run("document.querySelector('#requests button').focus()")
    before = page.run("document.activeElement.dataset.key")
    answer = daemon.chat("hello")
    newest = "document.querySelector('#requests tbody tr').textContent"
    page.until(f"{newest}.includes('{answer.headers['x-request-id']}')")
    assert "$0.250" in page.text("#requests tbody tr")
    assert (
        page.run("document.activeElement.dataset.key") == before != answer.headers["x-request-id"]
    )


def test_spend_by_model_and_by_client_as_a_plot_and_as_a_table(page):
    assert "claude-fake-1" in page.text("#legend")
    words = "[...document.querySelectorAll('.plot text')]"
    assert page.run(f"Math.min(...{words}.map((one) => one.getBBox().x))") >= 0
    page.run("document.querySelector('input[name=by]').focus()")
    page.press("ArrowRight")
    page.until("document.getElementById('legend').innerText.includes('default')")
    assert "claude-fake-1" not in page.text("#legend")
    page.run("document.querySelector('#days summary').click()")
    assert "default" in page.text("#days-table thead")
    shown = page.text("#legend").split("$")[1]
    assert shown in page.text("#days-table tbody")


def test_what_others_have_spent_is_summed_up_whatever_they_are_called(page):
    """0.1 + 0.2 is not 0.3, and every object has a `constructor`."""
    by = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.05, "e": 0.05}
    days = [{"day": "2026-11-01", "usd": 0.7, "by_client": by}]
    days += [{"day": "2026-11-02", "usd": 0.6, "by_client": {"a": 0.1, "b": 0.2, "c": 0.3}}]
    told = page.run(
        f"""import("/page/plot.js").then(({{ amounts, ranked }}) => {{
            const days = {json.dumps(days)};
            const names = ranked(days, "by_client").map(([name]) => name);
            return days.map((day) => amounts(day, "by_client", names));
        }})"""
    )
    assert told == [[0.3, 0.2, 0.1, 0.1], [0.3, 0.2, 0.1, 0]]
    odd = """import("/page/plot.js").then(({ amounts }) =>
        amounts({ usd: 1, by_model: { m: 1 } }, "by_model", ["m", "constructor"]))"""
    assert page.run(odd) == [1, 0]


def test_settings_that_could_not_be_had_are_asked_for_again(tab, daemon):
    tab.open(f"{daemon.url}/")
    tab.until("document.activeElement.id === 'key'")
    tab.run(
        """void (window.fetch = ((real) => (url, options) =>
            url === "/v1/client_settings" && !window.failed
                ? (window.failed = true, Promise.reject(new TypeError("no network")))
                : real(url, options))(window.fetch))"""
    )
    tab.type(KEY)
    tab.press("Enter")
    tab.until("document.getElementById('clients').innerText.includes('no network')")
    daemon.chat("hello")
    tab.until("document.querySelectorAll('#client option').length > 10")


def test_settings_of_a_client_are_chosen_and_copied(page, daemon):
    page.until("document.querySelectorAll('#client option').length > 10")
    page.run("document.getElementById('client').value = 'openai'")
    page.run("document.getElementById('client').dispatchEvent(new Event('change'))")
    shown = page.text("#settings pre")
    assert f'base_url="{daemon.url}/v1"' in shown
    page.run("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    page.run("document.querySelector('#settings button').click()")
    page.until("document.querySelector('#settings button').innerText === 'Copied'")
    assert page.run("window.copied").strip() == shown.strip()


def test_a_prompt_streams_and_its_price_is_told(page, tmp_path):
    gate = tmp_path / "gate"
    ask(page, f"until={gate}")
    page.until("document.getElementById('said').innerText.trim() === 'one'")
    assert page.text("#told").startswith("First token after ")
    assert page.run("document.getElementById('said').getAttribute('aria-busy')") == "true"
    gate.touch()
    page.until("document.getElementById('told').innerText.includes('$0.25')")
    assert page.text("#said") == "one two"
    assert re.fullmatch(r"Done in .+ · 3 tokens in, 2 out · \$0\.250", page.text("#told"))


def test_a_prompt_can_be_stopped(page, daemon):
    ask(page, "silent-amid")
    page.until("document.getElementById('said').innerText.trim() === 'one'")
    page.run("document.getElementById('stop').focus()")
    page.press("Space")
    page.until("document.getElementById('told').innerText.startsWith('Stopped')")
    daemon.log.wait_for("request.done", route="/chat/completions", client_gone=True)
    assert page.run("document.getElementById('send').disabled") is False
    page.until("document.querySelector('#requests .c-outcome').innerText === '200 stopped'")


def test_the_price_of_what_failed_stands_behind_why(page):
    ask(page, "paid-amid")
    page.until("document.getElementById('told').innerText.includes('$')")
    assert re.fullmatch(r"It failed: .+ · \$0\.250", page.text("#told"))


def test_an_answer_is_brought_into_sight_and_the_words_of_a_request_stay_whole(page):
    page.size(1000, 600)
    page.run("scrollTo(0, 0)")
    page.run("document.getElementById('prompt').focus({preventScroll: true})")
    ask(page, "hello")
    page.until("document.getElementById('told').innerText.includes('$')")
    shown = "document.getElementById('told').getBoundingClientRect()"
    assert page.run(f"{shown}.bottom <= innerHeight && {shown}.top > 0")
    height = "document.querySelector('#requests .c-client').getBoundingClientRect().height"
    assert page.run(height) < 30


def test_text_is_never_markup(page, daemon):
    """Of a model, an answer, an error."""
    ask(page, f"say {TARGET}")
    page.until("document.getElementById('told').innerText.startsWith('Done')")
    assert page.text("#said") == TARGET
    page.run(f"document.getElementById('model').value = {json.dumps(ALIAS)}")
    ask(page, f"{TARGET} tells-error")
    page.until("document.getElementById('told').innerText.startsWith('It failed')")
    assert TARGET in page.text("#told")
    assert TARGET in page.text("#requests")
    assert page.run("document.querySelectorAll('main img, main script').length") == 0
    assert page.run("document.title") == "claude-proxy"
    page.complaints[:] = [one for one in page.complaints if "chat/completions" not in one]


def test_markup_and_styles_in_text_would_be_refused_by_the_policy(page):
    for wrong in (
        "document.body.innerHTML = '<p>x</p>'",
        "eval('1')",
    ):
        with pytest.raises(AssertionError):
            page.run(wrong)
    page.run("document.body.setAttribute('style', 'color: red')")
    assert page.run("getComputedStyle(document.body).color") != "rgb(255, 0, 0)"
    assert len(page.complaints) >= 3
    page.complaints.clear()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_accessible_and_fits(tab, daemon, axe, shape, scheme):
    width, height, mobile = SHAPES[shape]
    tab.size(width, height, mobile=mobile)
    tab.prefer(color_scheme=scheme, reduced_motion="reduce")
    tab.open(f"{daemon.url}/")
    tab.until("document.activeElement.id === 'key'")
    tab.run(axe)
    assert violations(tab) == []
    tab.type(KEY)
    tab.press("Enter")
    tab.until(LIVE)
    tab.until("document.getElementById('client')")
    ask(tab, "hello")
    tab.until("document.getElementById('told').innerText.includes('$')")
    tab.run("document.querySelector('#days summary').click()")
    assert violations(tab) == []
    assert (
        tab.run("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    )
    assert tab.complaints == []


def violations(tab: Tab) -> list[str]:
    found = tab.run(
        "axe.run(document, {resultTypes: ['violations']}).then((found) => found.violations)"
    )
    return [
        f"{one['id']}: {node['html'][:200]} {node['failureSummary']}"
        for one in found
        for node in one["nodes"]
    ]


def test_all_of_it_is_reached_by_the_keyboard_and_the_focus_is_seen(page, daemon):
    page.open(f"{daemon.url}/?again")
    page.until(LIVE)
    reached = []
    for _ in range(40):
        page.press("Tab")
        focused = page.run(
            "(() => { const one = document.activeElement; const style = getComputedStyle(one);"
            " const box = one.closest('.choice label');"
            " const outline = box ? getComputedStyle(box).outlineStyle : style.outlineStyle;"
            " return [one.id || one.className || one.tagName, outline]; })()"
        )
        if focused[0] == "BODY":
            break
        reached.append(focused)
    names = [name for name, _ in reached]
    assert names[0] == "skip"
    assert {"forget", "prompt", "model", "send", "SUMMARY"} <= set(names)
    assert names.index("prompt") < names.index("model") < names.index("send")
    assert {outline for _, outline in reached} <= {"solid", "auto"}


def test_a_service_that_ends_is_left_asleep_until_somebody_wakes_it(tab):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        options = {"through": ("bash", "-c", ACTIVATE, str(number)), "pass_fds": (number,)}
        first = Daemon(*CHEAP, "--idle-exit", "1", **options)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        unlock(tab, f"{url}/")
        tab.until(LIVE)
        tab.until("document.getElementById('state').dataset.kind === 'idle'")
        assert first.process.wait(20) == 0
        assert tab.text("#state").startswith("Asleep")
        assert tab.run("document.getElementById('notice').hidden")
        first.close()
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()
        second = Daemon(*CHEAP, **options)
        assert tab.text("#wake") == "Wake it"
        ask(tab, "hello")  # which wakes it as well as the button would
        tab.until(LIVE)
        assert tab.run("document.getElementById('wake').hidden")
        assert second.terminate() == 0
        tab.until("document.getElementById('state').dataset.kind === 'stopped'")
        assert tab.text("#wake") == "Connect again"
        second.close()
    # As refusal.py answers for a program that cannot start.
    tab.run(
        'window.fetch = async () => new Response(\'{"error": {"message": "no such CLI"}}\','
        " {status: 503, headers: {'x-should-retry': 'false'}})"
    )
    tab.run("document.getElementById('wake').click()")
    tab.until("document.getElementById('state').innerText.includes(': no such CLI')")
    assert tab.run("document.getElementById('state').dataset.kind") == "stopped"


def test_a_service_that_breaks_off_is_asked_again(tab):
    daemon = Daemon(*CHEAP)
    unlock(tab, f"{daemon.url}/")
    tab.until(LIVE)
    port = int(daemon.url.rpartition(":")[2])
    daemon.process.kill()
    daemon.process.wait()
    tab.until("document.getElementById('state').dataset.kind === 'lost'")
    daemon.close()
    again = Daemon(*CHEAP, "--port", str(port))
    tab.until(LIVE, 40)
    again.close()
