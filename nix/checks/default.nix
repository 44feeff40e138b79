# What `nix flake check` runs, besides looking at the flake itself.
{
  pkgs,
  nixpkgs,
  home-manager,
  package,
  source,
}:
let
  inherit (pkgs) runCommand;

  home = home-manager.lib.homeManagerConfiguration {
    inherit pkgs;
    modules = [
      ../home-manager.nix
      {
        home = {
          username = "alice";
          homeDirectory = "/home/alice";
          stateVersion = "26.05";
        };
        manual.manpages.enable = false;
        # The plain checks must not need what is unfree.
        my.ai.claudeProxy = {
          enable = true;
          claudePackage = null;
        };
      }
    ];
  };
in
{
  # With the unit tests.
  inherit package;

  # What a user's generation is made of, whole.
  home = home.activationPackage;

  # Every option, right and wrong, under these very versions of nixpkgs and home-manager.
  modules =
    runCommand "claude-proxy-modules"
      {
        nativeBuildInputs = [
          pkgs.nix
          (pkgs.python3.withPackages (python: [ python.pytest ] ++ package.dependencies))
        ];
        NIXPKGS = "${nixpkgs}";
        HOME_MANAGER = "${home-manager}";
      }
      ''
        cp -r ${source} source
        cd source
        HOME=$TMPDIR pytest -p no:cacheprovider tests/nix
        touch $out
      '';

  style =
    runCommand "claude-proxy-style"
      {
        nativeBuildInputs = [
          pkgs.deadnix
          pkgs.nixfmt
          pkgs.statix
        ];
      }
      ''
        cd ${source}
        find . -name '*.nix' -exec nixfmt --check {} +
        deadnix --fail .
        statix check .
        touch $out
      '';

  # A system that boots: with the real CLI where unfree packages are allowed, for which
  # `NIXPKGS_ALLOW_UNFREE=1 nix flake check --impure` is one way, and else with a stand-in.
  vm = pkgs.testers.runNixOSTest (
    import ./vm.nix {
      inherit home-manager;
      claudePackage = if (builtins.tryEval "${pkgs.claude-code}").success then pkgs.claude-code else null;
    }
  );
}
