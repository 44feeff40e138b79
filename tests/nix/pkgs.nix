# As much of nixpkgs as the modules look at, without a build: what would be written to a file is
# its own text, and a package is a name.
{
  lib,
  nixpkgs,
  system ? "x86_64-linux",
  # Whether unfree packages may be used; null: there is no Claude Code in it.
  allowUnfree ? true,
}:
let
  package =
    name: more:
    {
      type = "derivation";
      inherit name;
      pname = name;
      outPath = "/nix/store/stand-in-${name}";
      outputName = "out";
      outputs = [ "out" ];
      meta.mainProgram = name;
    }
    // more;
  unfree = throw "Package ‘claude-code’ has an unfree license (‘unfree’), refusing to evaluate.";
in
{
  inherit lib;
  stdenv.hostPlatform = lib.systems.elaborate system;
  path = nixpkgs;

  callPackage =
    file: _:
    package (lib.removeSuffix ".nix" (baseNameOf file)) {
      meta.mainProgram = "claude-proxy";
    };

  # A generated file is named by what it holds.
  formats =
    lib.genAttrs
      [
        "hocon"
        "ini"
        "iniWithGlobalSection"
        "javaProperties"
        "json"
        "keyValue"
        "libconfig"
        "rasi"
        "toml"
        "xml"
        "yaml"
      ]
      (
        format: _: {
          type = lib.types.attrs;
          lib.types.atom = lib.types.anything;
          generate = _: value: "/nix/store/stand-in.${format}#${builtins.toJSON value}";
        }
      );
  glibcLocales = package "glibc-locales" { version = "2.42"; };
  writeTextFile = { text, ... }: "/" + text;
}
// lib.optionalAttrs (allowUnfree != null) {
  claude-code = package "claude-code" (
    {
      meta.mainProgram = "claude";
    }
    // lib.optionalAttrs (!allowUnfree) { outPath = unfree; }
  );
}
