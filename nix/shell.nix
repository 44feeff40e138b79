# All that `pytest tests/unit tests/nix` need. The newest clients and the real CLI come from PyPI with
# the README's test command, which works in here too.
{
  nixpkgs,
  home-manager,
  deadnix,
  git,
  mkShellNoCC,
  nix,
  nixfmt,
  nodejs,
  python3,
  ruff,
  statix,
  systemd,
}:
mkShellNoCC {
  # What tests/nix evaluates.
  NIXPKGS = "${nixpkgs}";
  HOME_MANAGER = "${home-manager}";

  packages = [
    (python3.withPackages (
      python: with python; [
        anthropic
        h11
        hatchling
        httptools
        httpx
        hypothesis
        jsonschema
        msgspec
        mypy
        openai
        pip
        prometheus-client
        pytest
        sdnotify
        starlette
        structlog
        uvicorn
      ]
    ))
    deadnix
    git
    nix
    nixfmt
    nodejs
    ruff
    statix
    systemd
  ];
}
