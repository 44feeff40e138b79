{
  description = "Your own Claude Code CLI as a local OpenAI and Anthropic API";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixpkgs-unstable";
    home-manager = {
      url = "github:nix-community/home-manager";
      inputs.nixpkgs.follows = "nixpkgs";
    };
  };

  outputs =
    {
      self,
      nixpkgs,
      home-manager,
    }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forEach =
        perSystem: nixpkgs.lib.genAttrs systems (system: perSystem nixpkgs.legacyPackages.${system});
    in
    {
      packages = forEach (pkgs: {
        default = pkgs.callPackage ./nix/package.nix { };
      });

      apps = forEach (pkgs: {
        default = {
          type = "app";
          program = pkgs.lib.getExe self.packages.${pkgs.stdenv.hostPlatform.system}.default;
          meta = { inherit (self.packages.${pkgs.stdenv.hostPlatform.system}.default.meta) description; };
        };
      });

      overlays.default = final: _: {
        claude-proxy = final.callPackage ./nix/package.nix { };
      };

      homeModules.default = ./nix/home-manager.nix;
      # The name of old, which `nix flake check` does not know.
      homeManagerModules = self.homeModules;
      nixosModules.default = ./nix/nixos.nix;

      devShells = forEach (pkgs: {
        default = pkgs.callPackage ./nix/shell.nix { inherit nixpkgs home-manager; };
      });

      formatter = forEach (pkgs: pkgs.nixfmt-tree);

      checks = forEach (
        pkgs:
        import ./nix/checks {
          inherit pkgs nixpkgs home-manager;
          package = self.packages.${pkgs.stdenv.hostPlatform.system}.default;
          source = self;
        }
      );
    };
}
