"""The module of a user, under the real home-manager and nixpkgs' own library."""

from __future__ import annotations

import json
import shlex

import msgspec
import pytest

from claude_proxy.command_line import load
from claude_proxy.settings import Settings
from tests.nix.evaluation import ROOT, Refused, evaluate, needs_home_manager
from tests.nix.table import declared
from tests.nix.test_units import OWN, SERVICE, SOCKET, sections, shipped, without

pytestmark = needs_home_manager

ENABLED = "enable = true;"
IN_STORE = "/nix/store/g5zs6l9y1c2j1m9vhk7xl8p0rzq4d3fw-key"
CLI = "/nix/store/stand-in-claude-code/bin/claude"


def service(found):
    return sections(found["files"][f"systemd/user/{SERVICE}"])


def socket(found):
    return sections(found["files"][f"systemd/user/{SOCKET}"])


def words(found) -> list[str]:
    """Of ExecStart=, as the program gets them."""
    (line,) = service(found)["Service"]["ExecStart"]
    return [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(line)]


def settings(found) -> Settings:
    """What the program makes of its flags."""
    return load(words(found)[1:], {}).settings


def variables(found) -> dict[str, str]:
    lines = service(found)["Service"]["Environment"]
    return dict(json.loads(line).split("=", 1) for line in lines)


def test_disabled_it_is_nothing(home):
    found = home()
    assert (found["files"], found["units"], found["packages"]) == ({}, [], [])
    assert (found["failed"], found["warnings"]) == ([], [])
    assert found["baseUrl"] == "http://127.0.0.1:8080/v1"


def test_disabled_it_asks_for_nothing_unfree(home):
    assert home(more="allowUnfree = false;")["failed"] == []


def test_enabled_its_units_are_the_shipped_ones(home):
    found = home(ENABLED)
    assert (found["failed"], found["warnings"]) == ([], [])
    assert found["packages"] == ["package", "claude-code"]
    assert service(found)["Unit"] == shipped(SERVICE)["Unit"]
    assert without(service(found)["Service"], OWN) == without(shipped(SERVICE)["Service"], OWN)
    assert socket(found) == shipped(SOCKET)
    assert "Install" not in service(found)
    assert found["files"].keys() == {
        *(f"systemd/user/{SERVICE}", f"systemd/user/{SOCKET}"),
        f"systemd/user/sockets.target.wants/{SOCKET}",
    }
    taken = settings(found)
    assert taken == msgspec.structs.replace(Settings(), claude=CLI)


def test_every_option_arrives(home):
    found = home(
        """
        enable = true;
        host = "::1";
        port = 9000;
        model = "opus";
        idleExit = "1h";
        spares = 3;
        maxConcurrency = 4;
        keepAlive = 60;
        modelAliases."gpt-*" = "haiku";
        logLevel = "debug";
        environment.X = "50% of \\"it\\"";
        extraArgs = [ "--retries=5" "--claude=/a b/$c%d" ];
        apiKeyFile = "/run/secrets/a b%";
        apiKeysFile = "%h/clients";
        settings.budget = [ "5/day" "20.5/month" ];
        settings.allow-origin = [ "https://chat.example" ];
        settings.allow-host = [ "box.lan" ];
        settings.rate = 30;
        settings = { queue = 9; timeout = "20s"; store-days = 0.5; store-size = "1G"; };
        settings.demo = true;
        """
    )
    assert (found["failed"], found["warnings"]) == ([], [])
    assert found["baseUrl"] == "http://[::1]:9000/v1"
    assert socket(found)["Socket"]["ListenStream"][0] == "[::1]:9000"
    assert service(found)["Service"]["LoadCredential"] == [
        *("api-key:/run/secrets/a b%%", "api-keys:%h/clients"),
    ]
    assert variables(found)["X"] == '50%% of "it"'
    taken = settings(found)
    assert (taken.host, taken.port, taken.model, taken.idle_exit) == ("::1", 9000, "opus", 3600)
    assert (taken.spares, taken.max_concurrency, taken.keep_alive) == (3, 4, 60)
    assert (taken.model_alias, taken.log_level) == ({"gpt-*": "haiku"}, "debug")
    assert (taken.queue, taken.timeout, taken.store_days) == (9, 20, 0.5)
    assert (taken.store_size, taken.demo) == (2**30, True)
    assert (taken.budget, taken.rate) == ({"day": 5, "month": 20.5}, 30)
    assert (taken.allow_origin, taken.allow_host) == (("https://chat.example",), ("box.lan",))
    assert (taken.retries, taken.claude) == (5, "/a b/$c%d")


def test_the_service_finds_programs_in_the_clis_package_first(home):
    path = variables(home(ENABLED))["PATH"].split(":")
    assert path[0] == "/nix/store/stand-in-claude-code/bin"
    assert {"%h/.nix-profile/bin", "/etc/profiles/per-user/%u/bin"} < set(path)


def test_without_a_package_the_cli_is_the_one_on_the_path(home):
    found = home(ENABLED + "claudePackage = null;", more="allowUnfree = false;")
    assert found["failed"] == []
    assert not any("--claude" in word for word in words(found))
    assert found["packages"] == ["package"]
    assert "/run/current-system/sw/bin" in variables(found)["PATH"].split(":")


@pytest.mark.parametrize("allowed", ["false", "null"])
def test_where_the_cli_cannot_be_had_it_says_what_to_do(home, allowed):
    found = home(ENABLED, more=f"allowUnfree = {allowed};")
    if allowed == "null":  # there is none, so the PATH's it is
        assert found["failed"] == []
        return
    (failed,) = found["failed"]
    assert "allowUnfreePredicate" in failed
    assert "claudePackage = null" in failed


def test_a_key_of_the_configurations_own_is_warned_of(home):
    found = home(ENABLED + 'apiKey = "sk-x";')
    assert variables(found)["PROXY_API_KEY"] == "sk-x"
    (warning,) = found["warnings"]
    assert "apiKeyFile" in warning
    assert "sk-x" not in warning


def test_a_key_file_keeps_the_key_out_of_the_units(home):
    found = home(ENABLED + 'apiKeyFile = "/run/secrets/a";')
    assert "PROXY_API_KEY=" not in json.dumps(found)


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("%t/agenix/a%", "%t/agenix/a%%"),
        ("%h/key", "%h/key"),
        ("${XDG_RUNTIME_DIR}/agenix/a", "%t/agenix/a"),
        ("/run/secrets/a%t", "/run/secrets/a%%t"),
    ],
)
def test_a_key_file_may_be_where_systemd_knows(home, given, written):
    """agenix has its files of a user's in the runtime directory."""
    found = home(ENABLED + f'apiKeyFile = "{given.replace("$", chr(92) + "$")}";')
    assert service(found)["Service"]["LoadCredential"] == [f"api-key:{written}"]


def test_a_key_in_the_sessions_environment_is_not_the_services(home):
    found = home(ENABLED)
    assert service(found)["Service"]["UnsetEnvironment"] == ["PROXY_API_KEY"]
    assert "UnsetEnvironment" not in service(home(ENABLED + 'apiKey = "a";'))["Service"]


def test_without_socket_activation_it_listens_itself(home):
    found = home(
        ENABLED + 'socketActivation = false; host = "my.host"; settings.listen = [ "/a" ];'
    )
    assert found["failed"] == []
    assert found["units"] == ["claude-proxy"]
    assert f"systemd/user/{SOCKET}" not in found["files"]
    assert f"systemd/user/default.target.wants/{SERVICE}" in found["files"]
    assert "Requires" not in service(found)["Unit"]
    assert settings(found).listen == ("/a",)


def test_others_get_at_the_port_only_when_that_is_meant(home):
    (failed,) = home(ENABLED + 'host = "0.0.0.0";')["failed"]
    assert "others can reach 0.0.0.0" in failed
    found = home(ENABLED + 'host = "0.0.0.0"; settings.allow-remote = true;')
    assert found["failed"] == []
    assert settings(found).allow_remote is True
    assert "others can reach 0.0.0.0:8080" in found["warnings"][0]
    assert found["baseUrl"] == "http://127.0.0.1:8080/v1"


def test_without_a_sandbox(home):
    assert service(home(ENABLED + "sandbox = false;"))["Service"]["PrivateUsers"] == ["no"]


def test_a_user_may_set_what_he_likes_of_the_units(home):
    found = home(
        ENABLED,
        modules="""({ lib, ... }: {
          systemd.user.services.claude-proxy = {
            Service.MemoryMax = lib.mkForce "1G";
            Service.Environment = [ "A=1" ];
            Unit.After = [ "my.service" ];
          };
          systemd.user.sockets.claude-proxy.Socket.ListenStream = [ "[::1]:8080" ];
        })""",
    )
    assert service(found)["Service"]["MemoryMax"] == ["1G"]
    assert "A=1" in service(found)["Service"]["Environment"]
    assert service(found)["Unit"]["After"] == ["my.service", SOCKET]
    assert len(socket(found)["Socket"]["ListenStream"]) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        *("port = 70000;", 'port = "8080";', 'model = "";', "spares = 65;", "maxConcurrency = 0;"),
        *(
            'idleExit = "soon";',
            "keepAlive = -1;",
            'idleExit = "48h";',
            'logLevel = "loud";',
            'apiKey = "two words";',
        ),
        *("apiKeyFile = ./key;", 'apiKeyFile = "relative";', f'apiKeyFile = "{IN_STORE}";'),
        *("modelAliases.x = 1;", "environment.X = 1;", 'extraArgs = "--demo";', "nonsense = 1;"),
        *("settings.nonsense = 1;", 'settings.queue = "many";', "settings.retries = 11;"),
        *('settings.timeout = "1d";', 'settings.store-size = "big";', 'baseUrl = "x";'),
        *("settings.timeout = 0;", 'settings.max-body-size = "1.0000001k";'),
        *('settings.listen = [ "nonsense" ];', 'apiKeyFile = "/a\\\\";', 'apiKeyFile = "/a\\nb";'),
        *('claudePackage = "claude";', "sandbox = 1;", 'socketActivation = "yes";'),
    ],
)
def test_a_wrong_value_is_an_error_that_names_the_option(home, wrong):
    with pytest.raises(Refused) as refused:
        home(ENABLED + wrong)
    name = wrong.partition(" =")[0]
    assert f"my.ai.claudeProxy.{name}" in str(refused.value)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ('apiKey = "a"; apiKeyFile = "/b";', "apiKey or apiKeyFile"),
        ('host = "my.host";', "host"),
        ('host = "999.1.1.1";', "host"),
        ('settings.listen = [ "/a" ];', "settings.listen"),
        ("port = 0;", "port"),
        ('environment.PROXY_API_KEY = "a";', "environment"),
        ('environment."A B" = "a";', "environment"),
        ('environment.CLAUDE_PROXY_QUEUE = "a";', "environment"),
        ('modelAliases."a=b" = "c";', "modelAliases"),
        ('extraArgs = [ "--api-key=a" ];', "extraArgs"),
    ],
)
def test_what_cannot_go_together_is_said(home, wrong, named):
    (failed,) = home(ENABLED + wrong)["failed"]
    assert failed.startswith("my.ai.claudeProxy")
    assert named in failed


def test_it_is_for_linux(home):
    found = home(ENABLED, more='system = "aarch64-darwin";')
    assert any("linux" in failed for failed in found["failed"])
    assert home(more='system = "aarch64-darwin";')["failed"] == []


def test_the_options_are_those_that_any_nix_lists(sources):
    """Which the table in docs/nix.md is made of."""
    listed = evaluate(
        f"""let
          sources = {{ {sources} }};
          lib = import (sources.nixpkgs + "/lib");
          declared = import {ROOT}/nix/options.nix {{ inherit lib; pkgs = {{ }}; }};
          evaluated = lib.evalModules {{
            modules = [ {{ options = declared.common // declared.system; }} ];
          }};
        in map (each: {{ inherit (each) name description; }})
          (lib.filter (each: each.visible && !each.internal)
            (lib.optionAttrSetToDocList (removeAttrs evaluated.options [ "_module" ])))"""
    )
    assert {each["name"]: each["description"] for each in listed} == {
        each["name"]: each["description"] for each in declared()
    }
