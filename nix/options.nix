# The options below my.ai.claudeProxy: those that a user and a system have in common, and those that
# only a system has. Types, ranges and defaults are the program's own (tests/nix holds them together).
{ lib, pkgs }:
let
  inherit (lib) literalExpression mkOption types;

  # What a number with a unit, or a number alone, comes to; null where it is none such.
  amount =
    units: value:
    let
      found = builtins.match "((0|[1-9][0-9]*)([.][0-9]+)?) *([a-zA-Z]*)" value;
      unit = lib.toLower (lib.last found);
    in
    if !builtins.isString value then
      value
    else if found == null || !(units ? ${unit}) then
      null
    else
      builtins.fromJSON (builtins.head found) * units.${unit};

  quantity =
    description: units: isRight:
    types.addCheck (types.either types.numbers.nonnegative types.str) (
      value:
      let
        it = amount units value;
      in
      it != null && isRight it
    )
    // {
      inherit description;
      descriptionClass = "noun";
    };

  seconds = {
    "" = 1;
    ms = 1.0e-3;
    s = 1;
    m = 60;
    min = 60;
    h = 3600;
  };
  durationFrom =
    isRight:
    quantity "number of seconds, or a text like \"90s\", \"15min\", \"2h\"; a day at most" seconds (
      it: isRight it && it <= 86400
    );
  duration = durationFrom (it: it > 0);
  durationOrZero = durationFrom (it: it >= 0);

  bytes =
    let
      of = unit: factor: {
        ${unit} = factor;
        "${unit}b" = factor;
        "${unit}ib" = factor;
      };
    in
    of "" 1 // of "k" 1024 // of "m" 1048576 // of "g" 1073741824;
  size =
    least: most:
    quantity "number of bytes, or a text like \"64M\", \"1G\"" bytes (
      it: it >= least && it <= most && builtins.floor it == it
    );

  place = types.strMatching "(/|~|unix:).+|(\\[[0-9a-fA-F:.%a-z]+]|[^]:[/]+):[0-9]{1,5}";

  # Where a user's runtime directory or home is meant, systemd finds out where that is.
  secretFile =
    types.addCheck
      (types.either types.externalPath (types.strMatching "(%t|%h|[$][{]XDG_RUNTIME_DIR})/.+"))
      # Nothing that would end its line in the unit, or go on with the next one.
      (file: builtins.match "[^\n]*[^\\\n]" (toString file) != null)
    // {
      description = "absolute path not in the Nix store, or one that begins with %t or %h";
      descriptionClass = "noun";
    };

  # A setting that is left to the program unless it is given.
  setting =
    type: description: default:
    mkOption {
      type = types.nullOr type;
      default = null;
      description = "${description} Without it: ${default}.";
    };
in
{
  common = {
    enable = lib.mkEnableOption "claude-proxy, the user's own Claude Code CLI as a local OpenAI and Anthropic API";

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = literalExpression "pkgs.callPackage ./package.nix { }";
      description = "The claude-proxy package to use.";
    };

    claudePackage = mkOption {
      type = types.nullOr types.package;
      default = pkgs.claude-code or null;
      defaultText = literalExpression "pkgs.claude-code";
      example = null;
      description = ''
        The Claude Code CLI to use, which is unfree. With `null` it is the `claude` that is found in
        the user's profile, the system's, {file}`~/.local/bin` or {file}`/usr/local/bin`.
      '';
    };

    host = mkOption {
      type = types.nonEmptyStr;
      default = "127.0.0.1";
      example = "::1";
      description = "Address to listen on. Anything but loopback lets others at the port, and needs `settings.allow-remote`.";
    };

    port = mkOption {
      type = types.port;
      default = 8080;
      description = "Port to listen on.";
    };

    model = mkOption {
      type = types.nonEmptyStr;
      default = "sonnet";
      example = "opus";
      description = "Model for requests that name none.";
    };

    apiKey = mkOption {
      type = types.nullOr (types.strMatching "[!-~]+");
      default = null;
      description = ''
        Key that clients must send. It lands in the Nix store, which everybody on the machine can
        read: {option}`apiKeyFile` is the better way. With neither, the program makes a key of its own
        and keeps it; {command}`claude-proxy key` prints it.
      '';
    };

    apiKeyFile = mkOption {
      type = types.nullOr secretFile;
      default = null;
      example = "/run/secrets/claude-proxy";
      description = ''
        File whose first line is the key that clients must send, as sops-nix or agenix make it; the
        user must be able to read it. systemd passes it on as a credential (`LoadCredential=`), and
        puts the runtime directory for `%t` or `''${XDG_RUNTIME_DIR}`, the home for `%h`.
      '';
    };

    apiKeysFile = mkOption {
      type = types.nullOr secretFile;
      default = null;
      example = "/run/secrets/claude-proxy-clients";
      description = ''
        File with further keys, one client each: its name and its key (or `sha256:` and the key's
        hash), then perhaps `budget=1/day` and `rate=10`. It is passed on as {option}`apiKeyFile` is.
      '';
    };

    socketActivation = mkOption {
      type = types.bool;
      default = true;
      description = ''
        Whether systemd listens and starts the service with the first connection, also on
        {file}`$XDG_RUNTIME_DIR/claude-proxy/claude-proxy.sock`. Otherwise the service starts with the
        user's session and listens itself.
      '';
    };

    idleExit = mkOption {
      type = durationOrZero;
      default = "15min";
      example = "1h";
      description = ''
        With {option}`socketActivation`, how long the program stays without a request or a living
        conversation; the next connection starts it again. `0`: for ever.
      '';
    };

    spares = mkOption {
      type = types.ints.between 0 64;
      default = 1;
      description = "Processes of the CLI that are started ahead and wait for a conversation.";
    };

    maxConcurrency = mkOption {
      type = types.ints.between 1 1000;
      default = 8;
      description = "Answers that are given at the same time; further requests wait.";
    };

    keepAlive = mkOption {
      type = durationOrZero;
      default = "5min";
      example = "20min";
      description = "How long the process of a conversation waits for its next turn. `0`: not at all.";
    };

    modelAliases = mkOption {
      type = types.attrsOf types.nonEmptyStr;
      default = { };
      example = {
        "gpt-*" = "sonnet";
      };
      description = "Names of models that clients insist on, and what answers to them. Names may hold `*`.";
    };

    logLevel = mkOption {
      type = types.enum [
        "debug"
        "info"
        "warning"
        "error"
      ];
      default = "info";
      description = "Least level that is logged.";
    };

    sandbox = mkOption {
      type = types.bool;
      default = true;
      description = ''
        Whether the service gets all of its sandbox. Without, it keeps what needs no user namespaces,
        for kernels that give none to users.
      '';
    };

    environment = mkOption {
      type = types.attrsOf types.str;
      default = { };
      example = {
        HTTPS_PROXY = "http://proxy.example.org:3128";
      };
      description = "Variables of the service and the CLI. They land in the Nix store.";
    };

    extraArgs = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "--forward-sampling" ];
      description = "Further arguments of {command}`claude-proxy`, which win over all other options.";
    };

    settings = mkOption {
      default = { };
      example = {
        queue-timeout = "30s";
        store-days = 0;
      };
      description = "All other settings, by the names of their flags.";
      type = types.submodule {
        options = {
          listen =
            setting (types.listOf place)
              "Where to listen instead: `ADDRESS:PORT`, `[IPV6]:PORT` or `/path`; only without {option}`socketActivation`."
              "{option}`host` and {option}`port`";
          allow-remote =
            setting types.bool
              "Listen also where others can reach it: whoever has the key spends your money, and what is said is not encrypted."
              "false";
          allow-host =
            setting (types.listOf types.nonEmptyStr)
              "Further names that clients may call this host by, such as one of a reverse proxy."
              "none";
          allow-origin =
            setting (types.listOf types.nonEmptyStr)
              "Origins, such as `https://chat.example`, whose pages may use this from a browser; they may hold `*`."
              "none";
          budget =
            setting (types.listOf (types.strMatching "[0-9]{1,9}([.][0-9]{1,9})?/(day|week|month)"))
              "US dollars per day, week or month (`5/day`), after which requests get 429 until the next one."
              "none";
          rate =
            setting (types.ints.between 0 100000) "Requests per minute that a client may make; 0: any number."
              "0";
          max-body-size = setting (size 1024 2147483648) "Largest request body taken." "32M";
          store-days =
            setting (types.numbers.between 0 36500)
              "Days for which responses are kept; 0: none, nowhere on disk."
              "30";
          store-size = setting (size 1048576 1099511627776) "Most that they may take on disk." "256M";
          forward-sampling =
            setting types.bool "Forward `temperature` and `top_p`, which newer models may refuse."
              "false";
          demo = setting types.bool "Answer from a built-in simulator, without an account." "false";
          queue =
            setting (types.ints.between 0 100000) "Requests that may wait for their turn; further ones get 429."
              "64";
          queue-timeout = setting duration "Longest wait for a turn." "2min";
          spare-max-age = setting duration "Age at which a waiting process is renewed." "30min";
          max-sessions =
            setting (types.ints.between 0 1000)
              "Conversations whose processes wait for their next turn; each takes some 130 MB."
              "8";
          timeout = setting duration "Longest silence of the CLI within an answer." "10min";
          retries =
            setting (types.ints.between 0 10) "How often the CLI may retry a failing upstream call."
              "2";
          drain-timeout = setting duration "How long running answers may go on when the service stops." "30s";
          log-format = setting (types.enum [
            "auto"
            "json"
            "console"
            "journal"
          ]) "How it is logged; `auto`: fields in the journal." "auto";
        };
      };
    };

    baseUrl = mkOption {
      type = types.str;
      readOnly = true;
      description = "What clients take as the base URL of OpenAI's API, for other modules to read.";
    };

    keyCommand = mkOption {
      type = types.str;
      readOnly = true;
      description = "A command that prints the key, as the user whose service it is, for other modules to read.";
    };
  };

  system = {
    users = mkOption {
      type = types.nullOr (types.listOf types.nonEmptyStr);
      default = null;
      example = [ "alice" ];
      description = ''
        NixOS: who gets it. `null` is every user of home-manager, or where there is none, everybody
        who logs in. Two who are logged in at the same time need ports of their own.
      '';
    };

    linger = mkOption {
      type = types.bool;
      default = false;
      description = "NixOS: whether it is there from boot on, without a login of these users.";
    };
  };
}
