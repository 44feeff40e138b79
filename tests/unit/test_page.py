"""The page's files: without a key, under a strict policy, and free of what that would refuse."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib import resources

import httpx
import pytest

from claude_proxy.claude.models import Models
from claude_proxy.claude.pool import Pool
from claude_proxy.page import clients, files
from claude_proxy.settings import Settings
from tests.unit.fake_cli import installation, run
from tests.unit.service import whole

FOLDER = resources.files("claude_proxy.page")
NAMES = sorted(one.name for one in FOLDER.iterdir() if one.name.endswith((".html", ".css", ".js")))
SCRIPTS = [name for name in NAMES if name.endswith(".js")]
LONGEST = 350
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
KEY = {"authorization": "Bearer sk-x"}


def text(name: str) -> str:
    return FOLDER.joinpath(name).read_text(encoding="utf-8")


@pytest.fixture
def ask(tmp_path):
    """One request to the application."""

    def ask(method: str, path: str, **headers: str) -> httpx.Response:
        async def work() -> httpx.Response:
            settings = Settings(spares=0)
            async with Pool(installation(tmp_path), settings) as pool:
                transport = httpx.ASGITransport(whole(settings, pool))
                async with httpx.AsyncClient(
                    transport=transport, base_url="http://localhost:8080"
                ) as client:
                    named = {name.replace("_", "-"): value for name, value in headers.items()}
                    return await client.request(method, path, headers=named)

        return run(work)

    return ask


def test_settings_of_clients_have_the_address_by_which_they_were_asked_for(ask):
    told = ask("GET", "/v1/client_settings", **KEY).json()
    texts = {one["client"]: one["text"] for one in reversed(told["data"])}
    assert '"http://localhost:8080/v1"' in texts["openai"]
    assert 'model = "sonnet"' in texts["codex"]
    assert "sk-x" not in "".join(texts.values())
    assert ask("GET", "/v1/client_settings").status_code == 401


@pytest.mark.parametrize(
    ("given", "scheme"), [("https", "https"), ("http", "http"), ("javascript", "http")]
)
def test_settings_of_clients_have_tls_where_a_reverse_proxy_has_it(ask, given, scheme):
    for path in ("/", "/v1/client_settings"):
        told = ask("GET", path, x_forwarded_proto=given, **KEY).text
        assert f"{scheme}://localhost:8080/v1" in told
        assert "javascript:" not in told


@pytest.mark.parametrize("host", ["$(id).localhost:8080", "x'y.localhost", "a;b.localhost"])
def test_a_host_that_is_none_gets_into_no_text_that_somebody_pastes(ask, host):
    """The gate takes them for this machine, as browsers do."""
    for path in ("/", "/v1/client_settings"):
        told = ask("GET", path, host=host, **KEY)
        assert told.status_code == 200
        assert "http://localhost/v1" in told.text
        assert host.partition(".")[0] not in told.text


def test_a_name_that_would_end_a_line_gets_into_no_text_that_somebody_pastes():
    models = Models("sonnet", {"fast": "haiku", "x\nimport os": "sonnet"})
    texts = "".join(one.text for one in clients.snippets("http://localhost:8080", models))
    assert "fast" in texts
    assert "import os:" not in texts


def test_every_file_is_listed():
    assert {*NAMES, "icon.svg"} == set(files.MEDIA_TYPES)


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_a_browser_gets_the_page_and_a_program_gets_words(ask, prefix):
    page = ask("GET", f"{prefix}/", **BROWSER)
    assert (page.status_code, page.text) == (200, text("index.html"))
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    told = ask("GET", f"{prefix}/", accept="*/*")
    assert told.json()["base_url"] == "http://localhost:8080/v1"
    assert {page.headers["vary"], told.headers["vary"]} == {"Accept"}


@pytest.mark.parametrize("name", files.MEDIA_TYPES)
def test_a_file_comes_under_the_policy_and_once(ask, name):
    whole = ask("GET", f"/page/{name}")
    assert (whole.status_code, whole.content) == (200, FOLDER.joinpath(name).read_bytes())
    assert whole.headers["content-type"].startswith(files.MEDIA_TYPES[name])
    again = ask("GET", f"/page/{name}", if_none_match=whole.headers["etag"])
    assert (again.status_code, again.content) == (304, b"")
    for answer in (whole, again):
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["/page/no.js", "/page/..%2Fapp.py", "/page/", "/page/a/b"])
def test_what_is_no_file_of_the_page_is_not_there(ask, path):
    assert ask("GET", path, **KEY).status_code == 404
    assert ask("GET", path).status_code in (401, 404)


def test_a_page_elsewhere_cannot_use_it(ask):
    for headers in (
        {"host": "evil.example"},
        {"origin": "http://evil.example"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"},
    ):
        assert ask("GET", "/page/page.js", **headers).status_code == 403


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_document_holds_no_script_no_style_and_nothing_of_others():
    parser = Elements()
    parser.feed(text("index.html"))
    tags = [tag for tag, _ in parser.found]
    assert "style" not in tags
    assert tags.count("script") == 1
    ids = [attributes["id"] for _, attributes in parser.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in parser.found:
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
        for name in ("src", "href"):
            if name in attributes and attributes[name] != "#main":
                assert attributes[name].removeprefix("/page/") in files.MEDIA_TYPES, tag


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_small_makes_no_markup_and_finds_what_it_looks_for(name):
    source = text(name)
    assert len(source.splitlines()) < LONGEST
    wrong = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|https?://"
    )
    assert re.findall(wrong, source.replace("http://www.w3.org/2000/svg", "")) == []
    assert set(re.findall(r'byId\("([\w-]+)"\)', source)) <= set(
        re.findall(r'id="([\w-]+)"', text("index.html"))
    )
    imported = re.findall(r'from "\./([\w.]+)"', source)
    assert set(imported) <= set(SCRIPTS)
