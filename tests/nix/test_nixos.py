"""The module of a system: NixOS' options are declared as it does, home-manager is the real one."""

from __future__ import annotations

import pytest

from tests.nix.evaluation import HERE, Refused, needs_home_manager, needs_nixpkgs
from tests.nix.test_home_manager import service, settings, socket
from tests.nix.test_units import OWN, SERVICE, SOCKET, shipped, without

pytestmark = needs_nixpkgs

ENABLED = "enable = true;"
UNIT = "claude-proxy"


def as_lists(settings):
    return {name: value if isinstance(value, list) else [value] for name, value in settings.items()}


@pytest.fixture
def with_users(system):
    """A system with home-manager's users alice and bob; ``alice`` are her own options."""

    def with_users(options: str = "", *, alice: str = ""):
        users = (
            "({ lib, ... }: { users.users.alice = { }; users.users.bob = { };"
            " home-manager.users.bob = { };"
            f" home-manager.users.alice.my.ai.claudeProxy = {{ {alice} }}; }})"
        )
        return system(options, modules=users, home_manager=True)

    return with_users


def test_disabled_it_is_nothing(system):
    found = system()
    assert (found["services"], found["sockets"], found["packages"]) == ({}, {}, [])
    assert (found["failed"], found["warnings"], found["linger"]) == ([], [], {})


def test_alone_it_is_the_systems_for_everybody_who_logs_in(system):
    found = system(ENABLED)
    assert (found["failed"], found["warnings"], found["linger"]) == ([], [], {})
    assert found["packages"] == ["package", "claude-code"]
    here = as_lists(found["services"][UNIT])
    assert without(here, OWN) == without(shipped(SERVICE)["Service"], OWN)
    assert as_lists(found["sockets"][UNIT]) == shipped(SOCKET)["Socket"]
    assert as_lists(found["conditions"][UNIT]) == shipped(SERVICE)["Unit"] | {
        "ConditionUser": ["!@system"]
    }
    assert found["wanted"] == {UNIT: ["sockets.target"]}


def test_alone_without_socket_activation(system):
    found = system(ENABLED + "socketActivation = false;")
    assert found["sockets"] == {}
    assert found["wanted"] == {UNIT: ["default.target"]}


def test_alone_for_some_users_from_boot_on(system):
    found = system(ENABLED + 'users = [ "alice" "bob" ]; linger = true;')
    assert found["conditions"][UNIT]["ConditionUser"] == ["|alice", "|bob"]
    assert found["linger"] == {"alice": True, "bob": True}


@pytest.mark.parametrize("linger", ["", "linger = true;"])
def test_users_are_known_by_the_name_that_they_log_in_with(system, linger):
    found = system(
        ENABLED + linger + 'users = [ "alice" ];', modules='{ users.users.alice.name = "al"; }'
    )
    assert found["failed"] == []
    assert found["conditions"][UNIT]["ConditionUser"] == ["|al"]


def test_a_user_who_is_not_there_is_said(system):
    (failed,) = system(ENABLED + 'users = [ "alcie" ];', modules="{ users.users.alice = { }; }")[
        "failed"
    ]
    assert "there is no user alcie" in failed


def test_to_linger_somebody_must_be_named(system):
    (failed,) = system(ENABLED + "linger = true;")["failed"]
    assert "my.ai.claudeProxy.linger: set users" in failed


def test_what_is_wrong_is_said_of_a_system_too(system):
    (failed,) = system(ENABLED + 'apiKey = "a"; apiKeyFile = "/b";')["failed"]
    assert "apiKey or apiKeyFile" in failed
    (failed,) = system(ENABLED, more="allowUnfree = false;")["failed"]
    assert "claudePackage = null" in failed
    (warning,) = system(ENABLED + 'apiKey = "a";')["warnings"]
    assert "apiKeyFile" in warning
    with pytest.raises(Refused, match=r"my\.ai\.claudeProxy\.users"):
        system(ENABLED + 'users = "alice";')


@needs_home_manager
def test_users_of_home_manager_get_it_by_its_module(with_users):
    found = with_users(ENABLED + 'port = 9000; apiKeyFile = "/run/secrets/a";')
    assert (found["services"], found["sockets"], found["packages"]) == ({}, {}, [])
    assert (found["failed"], found["warnings"]) == ([], [])
    for name in ("alice", "bob"):
        user = found["users"][name]
        assert socket(user)["Socket"]["ListenStream"][0] == "127.0.0.1:9000"
        assert service(user)["Service"]["LoadCredential"] == ["api-key:/run/secrets/a"]
        assert user["baseUrl"] == "http://127.0.0.1:9000/v1"


@needs_home_manager
def test_a_users_own_settings_win_each_by_itself(with_users):
    found = with_users(
        ENABLED + 'port = 9000; settings = { queue = 3; retries = 1; }; environment.A = "1";',
        alice='port = 9001; settings.retries = 2; environment.B = "2"; modelAliases.x = "opus";',
    )
    alice, bob = found["users"]["alice"], found["users"]["bob"]
    assert settings(alice).port == 9001
    assert (settings(alice).queue, settings(alice).retries) == (3, 2)
    assert settings(alice).model_alias == {"x": "opus"}
    assert {'"A=1"', '"B=2"'} < set(service(alice)["Service"]["Environment"])
    assert (settings(bob).port, settings(bob).retries) == (9000, 1)
    assert '"A=1"' in service(bob)["Service"]["Environment"]


@needs_home_manager
def test_defaults_of_others_go_before_those_of_the_system(with_users):
    """And what the system does set goes before them."""
    alice = (
        'port = lib.mkDefault 9001; model = lib.mkDefault "opus"; settings.queue = lib.mkDefault 3;'
    )
    found = with_users(ENABLED + 'model = "haiku";', alice=alice)["users"]
    assert (settings(found["alice"]).port, settings(found["alice"]).queue) == (9001, 3)
    assert settings(found["alice"]).model == "haiku"
    assert settings(found["bob"]).model == "haiku"


@needs_home_manager
def test_a_user_may_do_without_or_have_it_alone(with_users):
    found = with_users(ENABLED, alice="enable = false;")
    assert found["users"]["alice"]["units"] == []
    assert found["users"]["bob"]["units"] == [UNIT]
    found = with_users(alice="enable = true;")
    assert found["users"]["alice"]["units"] == [UNIT]
    assert found["users"]["bob"]["units"] == []


@needs_home_manager
def test_only_the_users_that_are_named_get_it_each_in_its_way(with_users):
    found = with_users(ENABLED + 'users = [ "alice" "carol" ]; linger = true;')
    assert found["users"]["alice"]["units"] == [UNIT]
    assert found["users"]["bob"]["units"] == []
    assert found["conditions"][UNIT]["ConditionUser"] == ["|carol"]
    assert found["linger"] == {"alice": True, "bob": None, "carol": True}


@needs_home_manager
def test_two_who_linger_with_the_same_port_are_warned_of(with_users):
    both = 'users = [ "alice" "bob" ]; linger = true;'
    (warning,) = with_users(ENABLED + both)["warnings"]
    assert "more than one user gets port 8080" in warning
    assert with_users(ENABLED + both, alice="port = 9001;")["warnings"] == []


@needs_home_manager
def test_users_that_are_called_otherwise_get_it(system):
    found = system(
        ENABLED + 'users = [ "alice" ];',
        modules='{ users.users.alice.name = "al"; home-manager.users.alice = { }; }',
        home_manager=True,
    )
    assert found["users"]["alice"]["units"] == [UNIT]


@needs_home_manager
def test_what_is_wrong_with_a_user_is_said_once(with_users):
    found = with_users(ENABLED, alice='apiKey = "a"; apiKeyFile = "/b";')
    (failed,) = found["failed"]
    assert failed.startswith("alice profile: my.ai.claudeProxy")


@pytest.mark.parametrize(
    "home_manager", [False, pytest.param(True, marks=needs_home_manager)], ids=["alone", "home"]
)
def test_it_goes_with_a_framework_that_declares_my_ai_itself(system, home_manager):
    framework = f"{HERE}/mynixos.nix"
    found = system(ENABLED + "port = 9000;", modules=framework, home_manager=home_manager)
    assert found["failed"] == []
    assert found["provider"] == {"baseUrl": "http://127.0.0.1:9000/v1", "modelId": "sonnet"}
    assert system(modules=framework, home_manager=home_manager)["provider"] == {}
