"""The file of the clients' keys, and whose a key is."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy import clients
from claude_proxy.api_key import ApiKey
from claude_proxy.clients import Client, Clients, digest, load_clients
from claude_proxy.settings import ConfigurationError, Settings

HASHED = hashlib.sha256(b"sk-laptop").hexdigest()


@pytest.fixture
def keys(tmp_path):
    def keys(text: str | bytes, name: str = "keys") -> str:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return keys


def loaded(path: str | None, **environ: str) -> Clients:
    return load_clients(Settings(api_key="sk-mine", api_keys_file=path), environ)


def refusal(path: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        loaded(path)
    message = str(caught.value)
    assert "\n" not in message
    assert "sk-" not in message
    return message.replace(path, "FILE")


def test_each_line_is_a_client_with_its_key_and_perhaps_its_limits(keys):
    path = keys(
        "# who may\n\nphone sk-phone # mine\n"
        f"laptop sha256:{HASHED.upper()} rate=30 budget=1.5/day budget=$20/month\r\n"
    )
    found = loaded(path)
    assert [one.name for one in found.all] == ["default", "phone", "laptop"]
    assert found.source == "flag or environment"
    laptop = found.whose(b"sk-laptop")
    assert laptop is not None
    assert (laptop.name, laptop.rate) == ("laptop", 30)
    assert laptop.budget == {"day": 1.5, "month": 20.0}
    assert [found.whose(key) and found.whose(key).name for key in (b"sk-mine", b"sk-phone")] == [
        "default",
        "phone",
    ]
    for wrong in (b"", b"sk-", HASHED.encode(), f"sha256:{HASHED}".encode(), b"\xff" * 1_000):
        assert found.whose(wrong) is None


def test_without_a_file_there_is_the_one_key_alone():
    found = loaded(None)
    assert [one.name for one in found.all] == ["default"]
    assert found.whose(b"sk-mine") == found.all[0]


def test_systemd_may_pass_the_file_and_a_setting_goes_before_it(keys, tmp_path):
    keys("phone sk-phone", "api-keys")
    assert loaded(None, CREDENTIALS_DIRECTORY=str(tmp_path)).whose(b"sk-phone") is not None
    other = keys("tablet sk-tablet")
    found = loaded(other, CREDENTIALS_DIRECTORY=str(tmp_path))
    assert [one.name for one in found.all] == ["default", "tablet"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("phone", "FILE, line 1: a name goes before the key"),
        ("sk-a sk-b", "FILE, line 1: a client's name holds"),
        ("default sk-a", "FILE, line 1: a client's name holds"),
        ("\n-x sk-a", "FILE, line 2: a client's name holds"),
        ("a/b sk-a", "FILE, line 1: a client's name holds"),
        ("a" * 65 + " sk-a", "FILE, line 1: a client's name holds"),
        ("phone sk-a\nphone sk-b", "FILE, line 2: the name or the key is phone's already"),
        ("phone sk-a\ntablet sk-a", "FILE, line 2: the name or the key is phone's already"),
        ("phone sk-mine", "FILE: phone has the key of default"),
        ("phone sha256:12ab", "FILE, line 1: sha256: takes the 64"),
        ("phone sk-a sk-b", "FILE, line 1: behind the key only"),
        ("phone sk-a rate=1 rate=2", "FILE, line 1: behind the key only"),
        ("phone sk-a rate=-1", "FILE, line 1: expected limits like"),
        ("phone sk-a budget=much/day", "FILE, line 1: expected limits like"),
        ("phone sk-a budget=1/year", "FILE, line 1: expected limits like"),
        ("phone sk-\u00e4", "FILE, line 1 is empty or holds characters that no header"),
        ("no file", "the keys file that the unit's LoadCredential="),
        (b"phone \xff\xfe", "cannot read the keys file FILE: it is not UTF-8"),
        (b"x" * (2**20 + 1), "cannot read the keys file FILE: File too large"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_and_never_shown(keys, text, said):
    assert refusal(keys(text)).startswith(said)


def test_a_file_that_is_not_there_is_said(tmp_path):
    assert "No such file" in refusal(str(tmp_path / "missing"))


def test_neither_a_key_nor_its_hash_is_in_a_repr(keys):
    found = loaded(keys("phone sk-phone"))
    shown = f"{found!r} {found.all!r}"
    assert "sk-" not in shown
    assert digest(b"sk-phone").hex() not in shown
    assert repr(digest(b"sk-phone")) not in shown


@given(
    st.lists(st.binary(max_size=40), min_size=1, max_size=6, unique=True), st.binary(max_size=40)
)
def test_a_key_is_its_owner_s_and_nobody_else_s(known, asked):
    others = [Client(f"c{number}", digest(key)) for number, key in enumerate(known)]
    found = Clients.of(ApiKey("sk-default", "test"), others).whose(asked)
    expected = f"c{known.index(asked)}" if asked in known else None
    assert (found and found.name) == expected


def test_the_systemd_credential_has_its_own_name():
    assert clients.CREDENTIAL == "api-keys"


def test_of_two_budgets_for_the_same_time_none_is_chosen(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("phone key-1 budget=1/day budget=100/day\n")
    with pytest.raises(ConfigurationError, match="line 1: expected limits like"):
        clients.read(keys)
