# A system that boots, a user who logs in, and what `systemctl --user` and `journalctl --user` say.
#
# With `claudePackage` null, a script stands in for the CLI; the real one speaks to the simulator of
# Anthropic's API.
{ home-manager, claudePackage }:
{ lib, pkgs, ... }:
let
  standIn = pkgs.writeScriptBin "claude" (
    builtins.replaceStrings [ "#!/usr/bin/env python3" ] [ "#!${lib.getExe pkgs.python3}" ] (
      builtins.readFile ../../tests/fakes/claude
    )
  );
  isReal = claudePackage != null;
  simulator = 8090;
  python = pkgs.python3.withPackages (python: [ (python.toPythonModule proxy) ]);
  proxy = pkgs.callPackage ../package.nix { };
  settings = {
    enable = true;
    claudePackage = if isReal then claudePackage else standIn;
    apiKeyFile = "/run/keys-of-alice/claude-proxy";
    environment = lib.optionalAttrs isReal {
      ANTHROPIC_BASE_URL = "http://127.0.0.1:${toString simulator}";
      ANTHROPIC_API_KEY = "sk-simulated";
    };
  };
  user = {
    isNormalUser = true;
    password = "secret";
  };
  common = {
    users.users.alice = user // {
      uid = 1000;
    };
    environment.systemPackages = [
      pkgs.curl
      pkgs.jq
    ];
    systemd.services.simulator = lib.mkIf isReal {
      wantedBy = [ "multi-user.target" ];
      serviceConfig.ExecStart = "${lib.getExe python} -m claude_proxy.simulator --port ${toString simulator}";
    };
  };
in
{
  name = "claude-proxy";

  nodes = {
    # By home-manager, waiting for a login.
    home = {
      imports = [
        common
        (home-manager + "/nixos")
        ../nixos.nix
      ];
      my.ai.claudeProxy = settings;
      home-manager.useGlobalPkgs = true;
      home-manager.users.alice.home.stateVersion = "26.05";
    };

    # By NixOS alone, from boot on, for some users only.
    plain = {
      imports = [
        common
        ../nixos.nix
      ];
      users.users.bob = user // {
        uid = 1001;
        linger = true;
      };
      my.ai.claudeProxy = settings // {
        users = [ "alice" ];
        linger = true;
      };
    };
  };

  testScript = ''
    import json
    import secrets

    BODY = json.dumps({
        "model": "sonnet",
        "messages": [{"role": "user", "content": "${
          if isReal then "[simulate text=hello]" else "hello"
        }"}],
    })
    UNIX = "/run/user/1000/claude-proxy/claude-proxy.sock"

    def alice(command):
        return f"su - alice -c 'export XDG_RUNTIME_DIR=/run/user/1000; {command}'"

    # Made now, so that it is in no store path but by a mistake.
    KEY = "sk-" + secrets.token_hex(16)

    def ask(more="", key=KEY):
        return (
            f"curl -fsS {more} http://127.0.0.1:8080/v1/chat/completions "
            f"-H \"Authorization: Bearer {key}\" -H \"Content-Type: application/json\" -d @/tmp/body"
        )

    def text_of(answer):
        return json.loads(answer)["choices"][0]["message"]["content"]

    def check(machine):
        machine.succeed(f"cat > /tmp/body <<'EOF'\n{BODY}\nEOF")
        machine.succeed("install -d -m 700 -o alice -g users /run/keys-of-alice")
        machine.succeed(f"echo {KEY} > /run/keys-of-alice/claude-proxy")
        machine.succeed("chown alice /run/keys-of-alice/claude-proxy; chmod 400 /run/keys-of-alice/claude-proxy")

        with subtest("the first connection starts it, on both sockets"):
            machine.wait_until_succeeds(alice("systemctl --user is-active claude-proxy.socket"))
            machine.fail(alice("systemctl --user is-active claude-proxy.service"))
            assert text_of(machine.succeed(alice(ask())))
            machine.succeed(alice("systemctl --user is-active claude-proxy.service"))
            assert text_of(machine.succeed(alice(ask(f"--unix-socket {UNIX}"))))

        with subtest("the key is a credential, and in no store path"):
            machine.fail(alice(ask(key="wrong")))
            assert machine.succeed(alice("claude-proxy key")).strip() == KEY
            where = "$(nix-store -qR /run/current-system) $(readlink -f /home/alice/.config /etc/systemd/user)"
            # It would be found: what the unit does hold is.
            machine.succeed(f"grep -rqF LoadCredential=api-key:/run/keys-of-alice {where}")
            machine.fail(f"grep -rqF {KEY} {where}")

        with subtest("the journal has fields"):
            lines = machine.succeed(alice("journalctl --user -o json EVENT=request.done"))
            seen = {(entry["STATUS"], entry["ROUTE"]) for entry in map(json.loads, lines.splitlines())}
            # A wrong key is refused before anybody looks where it wants to go.
            assert {("200", "/chat/completions"), ("401", "unknown")} <= seen, seen

        with subtest("no request is lost while it restarts"):
            machine.succeed(
                alice("for i in $(seq 1 60); do " + ask() + " -o /dev/null || echo lost >> /tmp/lost; done")
                + " & load=$!; "
                + "; ".join([alice("systemctl --user restart claude-proxy")] * 3)
                + "; wait $load; test ! -e /tmp/lost"
            )

        with subtest("it says what is wrong, and what runs"):
            print(machine.succeed(alice("claude-proxy status")))
            print(machine.execute(alice("claude-proxy check"))[1])

    start_all()

    home.wait_for_unit("multi-user.target")
    home.wait_until_tty_matches("1", "login: ")
    home.send_chars("alice\n")
    home.wait_until_tty_matches("1", "Password: ")
    home.send_chars("secret\n")
    home.wait_until_succeeds("systemctl is-active user@1000.service")
    check(home)

    plain.wait_until_succeeds("systemctl is-active user@1000.service user@1001.service")
    check(plain)
    state = plain.execute("su - bob -c 'XDG_RUNTIME_DIR=/run/user/1001 systemctl --user is-active claude-proxy.socket'")[1]
    assert state.strip() == "inactive", state
  '';
}
