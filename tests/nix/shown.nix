# Of one user's evaluated configuration: all that the tests look at, as JSON can have it.
{ lib }:
{
  config,
  options ? { },
  ...
}:
let
  ours = lib.filterAttrs (name: _: lib.hasInfix "claude-proxy" name);
in
{
  # What home-manager would write, by the file's name; `pkgs.nix` makes a path of the text.
  files = lib.mapAttrs (
    name: file: lib.removePrefix "/" (lib.removeSuffix "/${baseNameOf name}" file.source)
  ) (ours config.xdg.configFile);
  units = lib.attrNames (ours (config.systemd.user.services // config.systemd.user.sockets));
  packages = map lib.getName (
    lib.concatMap (each: each.value) (
      lib.filter (each: lib.hasSuffix "nix/home-manager.nix" each.file) (
        options.home.packages.definitionsWithLocations or [ ]
      )
    )
  );
  failed = map (each: each.message) (lib.filter (each: !each.assertion) config.assertions);
  inherit (config) warnings;
  inherit (config.my.ai.claudeProxy) baseUrl keyCommand;
}
