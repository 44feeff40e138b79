# What a user's configuration comes to under the real home-manager: its units' text and values.
{
  nixpkgs,
  homeManager,
  modules,
  system ? "x86_64-linux",
  allowUnfree ? true,
}:
let
  plain = import (nixpkgs + "/lib");
  lib = import (homeManager + "/modules/lib/stdlib-extended.nix") plain;
  pkgs = import ./pkgs.nix {
    inherit
      lib
      nixpkgs
      system
      allowUnfree
      ;
  };
  evaluated = lib.evalModules {
    class = "homeManager";
    specialArgs.modulesPath = toString (homeManager + "/modules");
    modules =
      modules
      ++ [
        ../../nix/home-manager.nix
        {
          home = {
            username = "tester";
            homeDirectory = "/home/tester";
            stateVersion = "26.05";
          };
          # They look into packages that the stand-in does not have.
          programs.man.enable = false;
          manual.manpages.enable = false;
        }
      ]
      ++ import (homeManager + "/modules/modules.nix") {
        inherit lib pkgs;
        useNixpkgsModule = false;
      };
  };
in
import ./shown.nix { inherit lib; } evaluated
