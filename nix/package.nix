{
  lib,
  python3Packages,
}:
let
  package = builtins.readFile ../claude_proxy/__init__.py;
in
python3Packages.buildPythonApplication {
  pname = "claude-proxy";
  version = builtins.head (builtins.match ''.*__version__ = "([^"]+)".*'' package);
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

  # The wheel brings the manual page and the completions along, as share/.
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
    anthropic
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
    description = "Your own Claude Code CLI as a local OpenAI and Anthropic API";
    license = lib.licenses.mit;
    mainProgram = "claude-proxy";
    platforms = lib.platforms.linux;
  };
}
