# What a system's configuration comes to: with the real home-manager where that is given, and with
# those of NixOS' options that the modules touch, declared here as NixOS does.
{
  nixpkgs,
  modules,
  homeManager ? null,
  system ? "x86_64-linux",
  allowUnfree ? true,
}:
let
  lib = import (nixpkgs + "/lib");
  pkgs = import ./pkgs.nix {
    inherit
      lib
      nixpkgs
      system
      allowUnfree
      ;
  };
  inherit (lib) mkOption types;

  filled = type: default: mkOption { inherit type default; };
  anything = filled types.attrs { };
  settings = types.attrsOf (
    types.oneOf [
      types.str
      types.int
      types.bool
      (types.listOf (types.either types.str types.int))
    ]
  );
  unit =
    more:
    types.attrsOf (
      types.submodule {
        options = {
          unitConfig = filled settings { };
          wantedBy = filled (types.listOf types.str) [ ];
        }
        // more;
      }
    );

  nixos =
    { name, ... }:
    {
      options = {
        name = filled types.str name;
        home = filled types.str "/home/${name}";
        uid = filled (types.nullOr types.int) null;
        linger = filled (types.nullOr types.bool) null;
        packages = filled (types.listOf types.package) [ ];
      };
    };

  evaluated = lib.evalModules {
    class = "nixos";
    specialArgs.utils.escapeSystemdPath = lib.id;
    modules =
      modules
      ++ [
        ../../nix/nixos.nix
        (nixpkgs + "/nixos/modules/misc/assertions.nix")
        (nixpkgs + "/nixos/modules/misc/meta.nix")
        {
          config._module.args.pkgs = pkgs;
          options = {
            environment.systemPackages = filled (types.listOf types.package) [ ];
            environment.pathsToLink = filled (types.listOf types.str) [ ];
            fonts.fontconfig.enable = filled types.bool false;
            i18n = anything;
            nix.enable = filled types.bool false;
            nix.package = filled types.package pkgs.glibcLocales;
            programs = anything;
            services = anything;
            system = anything;
            systemd = {
              services = anything;
              user.services = filled (unit {
                serviceConfig = filled settings { };
                enableDefaultPath = filled types.bool true;
              }) { };
              user.sockets = filled (unit { socketConfig = filled settings { }; }) { };
            };
            users.users = filled (types.attrsOf (types.submodule nixos)) { };
          };
        }
      ]
      ++ lib.optionals (homeManager != null) [
        (homeManager + "/nixos")
        {
          home-manager.useGlobalPkgs = true;
          home-manager.sharedModules = [
            {
              home.stateVersion = "26.05";
              programs.man.enable = false;
              manual.manpages.enable = false;
            }
          ];
        }
      ];
  };
  inherit (evaluated) config;
in
{
  services = lib.mapAttrs (_: service: service.serviceConfig) config.systemd.user.services;
  sockets = lib.mapAttrs (_: socket: socket.socketConfig) config.systemd.user.sockets;
  conditions = lib.mapAttrs (_: service: service.unitConfig) config.systemd.user.services;
  wanted = lib.mapAttrs (_: unit: unit.wantedBy) (
    config.systemd.user.services // config.systemd.user.sockets
  );
  packages = map lib.getName config.environment.systemPackages;
  linger = lib.mapAttrs (_: user: user.linger) config.users.users;
  failed = map (each: each.message) (lib.filter (each: !each.assertion) config.assertions);
  inherit (config) warnings;
  inherit (config.my.ai.claudeProxy) baseUrl keyCommand;
  provider = config.my.ai.openclaw.provider or null;
  users = lib.mapAttrs (_: config: import ./shown.nix { inherit lib; } { inherit config; }) (
    config.home-manager.users or { }
  );
}
