# NixOS: my.ai.claudeProxy for all users, or for some. Users of home-manager get it by its module,
# all others by units of the system's for user managers.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:
let
  inherit (lib) mkDefault;

  cfg = config.my.ai.claudeProxy;
  service = import ./service.nix { inherit lib pkgs cfg; };
  inherit (service.units.service) Unit Service Install;

  declared = import ./options.nix { inherit lib pkgs; };

  withHomeManager = lib.optionals (options ? home-manager) (lib.attrNames config.home-manager.users);
  isMeant = name: cfg.users == null || lib.elem name cfg.users;

  # Who gets it from the system itself: null for everybody.
  bySystem =
    if cfg.users != null then
      lib.subtractLists withHomeManager cfg.users
    else if withHomeManager == [ ] then
      null
    else
      [ ];
  # Of users that systemd counts as the system's, such as the one of a login screen, none is meant.
  condition = if bySystem == null then "!@system" else map (name: "|${name}") bySystem;

  # The system's settings, which give way to those of a user, each by itself.
  forUser = lib.mapAttrs (
    name: _:
    if lib.isAttrs cfg.${name} && !lib.isDerivation cfg.${name} then
      lib.mapAttrs (_: mkDefault) cfg.${name}
    else
      mkDefault cfg.${name}
  ) (lib.filterAttrs (_: option: !(option.readOnly or false)) declared.common);

  homeModule =
    { config, ... }:
    {
      my.ai.claudeProxy = lib.mkIf (cfg.enable && isMeant config.home.username) forUser;
    };
in
{
  options.my.ai.claudeProxy = declared.common // declared.system;

  config = lib.mkMerge (
    [
      { my.ai.claudeProxy = service.values; }
      (lib.mkIf cfg.enable {
        assertions = [
          {
            assertion = cfg.linger -> cfg.users != null || withHomeManager != [ ];
            message = "my.ai.claudeProxy.linger: set users, whose services are then started at boot.";
          }
        ];
        users.users = lib.mkIf cfg.linger (
          lib.genAttrs (if cfg.users == null then withHomeManager else cfg.users) (_: {
            linger = mkDefault true;
          })
        );
      })
      (lib.mkIf (cfg.enable && bySystem != [ ]) {
        inherit (service) assertions warnings;
        environment.systemPackages = [ cfg.package ];

        systemd.user.services.claude-proxy = {
          unitConfig = Unit // {
            ConditionUser = condition;
          };
          serviceConfig = Service;
          wantedBy = lib.toList (Install.WantedBy or [ ]);
          enableDefaultPath = false; # PATH is the unit's own
        };
        systemd.user.sockets.claude-proxy = lib.mkIf cfg.socketActivation {
          unitConfig = service.units.socket.Unit // {
            ConditionUser = condition;
          };
          socketConfig = service.units.socket.Socket;
          wantedBy = lib.toList service.units.socket.Install.WantedBy;
        };
      })
    ]
    ++ lib.optional (options ? home-manager) {
      home-manager.sharedModules = [
        ./home-manager.nix
        homeModule
      ];
    }
  );
}
