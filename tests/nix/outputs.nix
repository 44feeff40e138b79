# The flake's outputs over the stand-ins, as any Nix can evaluate them; `lib` is nixpkgs' own.
{ nixpkgs }:
let
  flake = import ../../flake.nix;
  lib = import (nixpkgs + "/lib");
  legacyPackages = lib.genAttrs lib.systems.flakeExposed (
    system: import ./pkgs.nix { inherit lib nixpkgs system; }
  );
  outputs = flake.outputs {
    self = outputs // {
      outPath = toString ../..;
    };
    nixpkgs = {
      inherit lib legacyPackages;
    };
    home-manager.lib.homeManagerConfiguration = { pkgs, modules }: {
      activationPackage = {
        type = "derivation";
        name = pkgs.stdenv.hostPlatform.system;
        inherit modules;
      };
    };
  };
in
{
  inputs = lib.attrNames flake.inputs;
  outputs = lib.attrNames outputs;
  systems = lib.mapAttrs (_: lib.attrNames) {
    inherit (outputs)
      packages
      apps
      devShells
      formatter
      checks
      ;
  };
  checks = lib.attrNames outputs.checks.x86_64-linux;
  program = outputs.apps.x86_64-linux.default.program;
  modules = {
    home = toString outputs.homeModules.default;
    old = toString outputs.homeManagerModules.default;
    nixos = toString outputs.nixosModules.default;
  };
  overlay = lib.attrNames (outputs.overlays.default legacyPackages.x86_64-linux { });
}
