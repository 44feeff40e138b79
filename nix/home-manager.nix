# home-manager: my.ai.claudeProxy of one user.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.my.ai.claudeProxy;
  service = import ./service.nix { inherit lib cfg; };
in
{
  options.my.ai.claudeProxy = (import ./options.nix { inherit lib pkgs; }).common;

  config = lib.mkMerge [
    { my.ai.claudeProxy = service.values; }
    (lib.mkIf cfg.enable {
      inherit (service) warnings;
      assertions = service.assertions ++ [
        (lib.hm.assertions.assertPlatform "my.ai.claudeProxy" pkgs lib.platforms.linux)
      ];

      home = { inherit (service) packages; };

      systemd.user.services.claude-proxy = service.units.service;
      systemd.user.sockets.claude-proxy = lib.mkIf cfg.socketActivation service.units.socket;
    })
  ];
}
