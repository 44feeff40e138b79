# What the options come to, wherever they are set: the units, and what is wrong with them.
{
  lib,
  cfg,
}:
let
  here = "my.ai.claudeProxy";

  # Whether nixpkgs lets it be used: an unfree package throws as soon as it is looked at.
  allowed = package: (builtins.tryEval "${package}").success;
  claude =
    if cfg.claudePackage == null || !allowed cfg.claudePackage then null else cfg.claudePackage;

  host = if cfg.host == "localhost" then "127.0.0.1" else cfg.host;
  address = if lib.hasInfix ":" host then "[${host}]" else host;
  octet = "(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])";
  isNumeric = builtins.match "${octet}([.]${octet}){3}|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*" host != null;
  isLoopback = lib.hasPrefix "127." host || host == "::1";

  # As flags, which win over what a session may have in its environment (PORT, CLAUDE_MODEL, ...).
  flags =
    lib.concatMap
      (
        { name, value }:
        if value == null then
          [ ]
        else if lib.isBool value then
          lib.optional value "--${name}"
        else
          map (each: "--${name}=${toString each}") (lib.toList value)
      )
      (
        lib.mapAttrsToList lib.nameValuePair (
          cfg.settings
          // {
            inherit (cfg)
              host
              port
              model
              spares
              ;
            idle-exit = cfg.idleExit;
            max-concurrency = cfg.maxConcurrency;
            keep-alive = cfg.keepAlive;
            log-level = cfg.logLevel;
            model-alias = lib.mapAttrsToList (name: model: "${name}=${model}") cfg.modelAliases;
            claude = if claude == null then null else lib.getExe claude;
          }
        )
      );

  # Where a user's programs are: by home-manager, by NixOS, by hand. The user manager's own PATH has
  # next to nothing of it on NixOS.
  path = [
    "%h/.nix-profile/bin"
    "/etc/profiles/per-user/%u/bin"
    "%h/.local/state/nix/profile/bin"
    "%h/.local/bin"
    "/run/current-system/sw/bin"
    "/usr/local/bin"
    "/usr/bin"
    "/bin"
  ];
in
{
  units = (import ./units.nix).units {
    program = lib.getExe cfg.package;
    arguments = flags ++ cfg.extraArgs;
    environment =
      lib.optionalAttrs (cfg.apiKey != null) { PROXY_API_KEY = cfg.apiKey; } // cfg.environment;
    # A session that has the clients' key in its environment must not make it the service's.
    unset = lib.optional (cfg.apiKey == null) "PROXY_API_KEY";
    path = lib.optional (claude != null) "${lib.getBin claude}/bin" ++ path;
    credentials = lib.filterAttrs (_: file: file != null) {
      api-key = cfg.apiKeyFile;
      api-keys = cfg.apiKeysFile;
    };
    inherit (cfg) sandbox socketActivation;
    listen = [ "${address}:${toString cfg.port}" ];
  };

  # With the CLI, which the user logs in with; one that he has installed himself goes first.
  packages = [ cfg.package ] ++ lib.optional (claude != null) (lib.lowPrio claude);

  values = {
    baseUrl = "http://${
      if host == "0.0.0.0" then
        "127.0.0.1"
      else if host == "::" then
        "[::1]"
      else
        address
    }:${toString cfg.port}/v1";
    keyCommand = "${lib.getExe cfg.package} key";
  };

  assertions = [
    {
      assertion = cfg.apiKey == null || cfg.apiKeyFile == null;
      message = "${here}: set apiKey or apiKeyFile, not both.";
    }
    {
      assertion = cfg.claudePackage == null || claude != null;
      message = ''
        ${here}.claudePackage: this nixpkgs does not give it away, as a rule because Claude Code is unfree. Either allow it,
          nixpkgs.config.allowUnfreePredicate = pkg: builtins.elem (lib.getName pkg) [ "claude-code" ];
        or take the `claude` that is installed by other means,
          ${here}.claudePackage = null;
      '';
    }
    {
      assertion = cfg.socketActivation -> isNumeric;
      message = "${here}.host: systemd looks no names up, so with socketActivation it must be an address, not “${cfg.host}”.";
    }
    {
      assertion = cfg.socketActivation -> cfg.settings.listen == null;
      message = "${here}.settings.listen: with socketActivation systemd's socket listens; set host and port, or socketActivation = false.";
    }
    {
      # What a name or settings.listen leads to, the program finds out when it starts.
      assertion =
        isNumeric && cfg.settings.listen == null -> isLoopback || cfg.settings.allow-remote == true;
      message = "${here}.host: others can reach ${address}; with the key they can use your Claude account, and nothing is encrypted. If you mean it, set ${here}.settings.allow-remote = true.";
    }
    {
      assertion = cfg.port != 0;
      message = "${here}.port: clients must know it, so it cannot be 0.";
    }
    {
      assertion = !(cfg.environment ? PROXY_API_KEY);
      message = "${here}.environment: the key is no variable; set apiKeyFile (or apiKey).";
    }
    {
      assertion = lib.all (name: builtins.match "[A-Za-z_][A-Za-z0-9_]*" name != null) (
        lib.attrNames cfg.environment
      );
      message = "${here}.environment: names of variables are letters, digits and _, not all of these: ${toString (lib.attrNames cfg.environment)}.";
    }
    {
      assertion = !(lib.any (lib.hasPrefix "CLAUDE_PROXY_") (lib.attrNames cfg.environment));
      message = "${here}.environment: settings of the program are options, not CLAUDE_PROXY_* variables.";
    }
    {
      assertion = lib.all (name: builtins.match "[^=]+" name != null) (lib.attrNames cfg.modelAliases);
      message = "${here}.modelAliases: a name must hold something, and no “=”.";
    }
    {
      assertion = !(lib.any (lib.hasPrefix "--api-key") cfg.extraArgs);
      message = "${here}.extraArgs: everybody can read arguments; set apiKeyFile.";
    }
  ];

  warnings =
    lib.optional (cfg.apiKey != null)
      "${here}.apiKey stands in the Nix store, where everybody on this machine can read it; apiKeyFile keeps it out."
    ++ lib.optional (
      !isLoopback
    ) "${here}.host: others can reach ${address}:${toString cfg.port}; the key alone protects it.";
}
