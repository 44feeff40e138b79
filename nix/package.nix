{
  lib,
  python3Packages,
}:
python3Packages.buildPythonApplication {
  pname = "claude-proxy";
  inherit ((lib.importTOML ../pyproject.toml).project) version;
  pyproject = true;

  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../CHANGELOG.md
      ../LICENSE
      ../README.md
      ../SECURITY.md
      ../claude_proxy
      ../docs
      ../pyproject.toml
      ../systemd
      ../tests
    ];
  };

  build-system = [ python3Packages.hatchling ];

  dependencies = with python3Packages; [
    h11
    msgspec
    prometheus-client
    sdnotify
    starlette
    structlog
    uvicorn
  ];

  nativeCheckInputs = with python3Packages; [
    httpx
    hypothesis
    jsonschema
    openai
    pytestCheckHook
  ];

  preCheck = ''
    patchShebangs tests/fakes
  '';

  # The rest of tests/ drives the real CLI, which is unfree, or a systemd.
  enabledTestPaths = [ "tests/unit" ];

  pythonImportsCheck = [ "claude_proxy" ];

  meta = {
    description = "Your own Claude Code CLI as a local, OpenAI-compatible API";
    license = lib.licenses.mit;
    mainProgram = "claude-proxy";
    platforms = lib.platforms.linux;
  };
}
