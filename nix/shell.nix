# All that the tests need but the real CLI and the client libraries that nixpkgs lacks: those come
# from PyPI with the README's test command, which works in here.
{
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
  packages = [
    (python3.withPackages (
      python: with python; [
        hatchling
        httptools
        httpx
        hypothesis
        jsonschema
        msgspec
        mypy
        openai
        pip
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
