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
  cfg = config.my.ai.claudeProxy;
  service = import ./service.nix { inherit lib cfg; };
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
  loginName = name: config.users.users.${name}.name or name;
  # Of users that systemd counts as the system's, such as the one of a login screen, none is meant.
  condition = if bySystem == null then "!@system" else map (name: "|${loginName name}") bySystem;

  # What the system sets, for a user: his own settings win, each by itself, and what is a default
  # here leaves room for defaults that somebody else gives him.
  own = lib.mkOverride 990;
  forUser = lib.mapAttrs (
    name: option:
    let
      value = cfg.${name};
    in
    # Not compared: a package that nixpkgs does not allow must not be looked at.
    if
      lib.elem name [
        "package"
        "claudePackage"
      ]
    then
      lib.mkOverride 1250 value
    else if lib.isAttrs value then
      lib.mapAttrs (_: own) (lib.filterAttrs (_: each: each != null) value)
    else
      lib.mkIf (value != option.default) (own value)
  ) (lib.filterAttrs (_: option: !(option.readOnly or false)) declared.common);

  homeModule =
    { name, ... }:
    {
      my.ai.claudeProxy = lib.mkIf (cfg.enable && isMeant name) forUser;
    };

  unknown = lib.subtractLists (withHomeManager ++ lib.attrNames config.users.users) cfg.users;
  ports = map (name: toString config.home-manager.users.${name}.my.ai.claudeProxy.port) (
    lib.intersectLists withHomeManager cfg.users
  );
in
{
  options.my.ai.claudeProxy = declared.common // declared.system;

  config = lib.mkMerge (
    [
      { my.ai.claudeProxy = service.values; }
      (lib.mkIf cfg.enable {
        assertions = [
          {
            assertion = cfg.linger -> cfg.users != null;
            message = "my.ai.claudeProxy.linger: set users, whose services are then started at boot.";
          }
          {
            assertion = cfg.users != null && !cfg.linger -> unknown == [ ];
            message = "my.ai.claudeProxy.users: there is no user ${toString unknown}.";
          }
        ];
        warnings =
          lib.optional (cfg.linger && cfg.users != null && !(lib.allUnique ports))
            "my.ai.claudeProxy.linger: more than one user gets port ${toString ports}, which only one can have; set home-manager.users.<name>.my.ai.claudeProxy.port.";
        users.users = lib.mkIf (cfg.linger && cfg.users != null) (
          lib.genAttrs cfg.users (_: {
            linger = lib.mkDefault true;
          })
        );
      })
      (lib.mkIf (cfg.enable && bySystem != [ ]) {
        inherit (service) assertions warnings;
        environment.systemPackages = service.packages;

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
