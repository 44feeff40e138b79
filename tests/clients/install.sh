#!/usr/bin/env bash
# Installs the real clients that tests/clients drives, in pinned versions, each in a place of its own
# below DIR; tests find them by CLIENTS_DIR=DIR. What is there already stays. What cannot be had is
# named, and its tests are skipped.
#
#   install.sh DIR [NAME...]
set -euo pipefail

dir=$(realpath -m "${1:?usage: install.sh DIR [NAME...]}")
only=" ${*:2} "
export npm_config_cache=$dir/.cache/npm npm_config_audit=false npm_config_fund=false
export npm_config_update_notifier=false npm_config_loglevel=error
export UV_CACHE_DIR=$dir/.cache/uv UV_PYTHON_DOWNLOADS=never
case $(uname -m) in
  x86_64) cpu=x64 ;;
  aarch64) cpu=arm64 ;;
  *) cpu=unknown ;;
esac

# The agents are programs in a package for each kind of machine, which is all that is needed of them.
node_version=26.10.0
codex=@openai/codex@0.169.0-linux-$cpu
opencode=opencode-linux-$cpu@1.18.33
cline=@cline/cli-linux-$cpu@3.0.65
continue=@continuedev/cli@1.5.47
openclaw=openclaw@2026.9.6
javascript="openai@7.59.0 @anthropic-ai/sdk@1.14.0 ai@7.0.173 @ai-sdk/openai@4.0.118"
python="openai==3.57.0 anthropic==2.14.0 langchain-openai==1.7.4 llm==0.36
  pydantic-ai-slim[openai]==2.68.0 openai-agents==0.24.0"
aider="aider-chat==0.86.2" # brings litellm, whose tests use it

from_npm() {
  PATH=$dir/node/node_modules/node/bin:$PATH \
    npm install --prefix "$dir/$1" --ignore-scripts --omit=optional "${@:2}"
}

node() { # its own scripts choose the package of this machine
  npm install --prefix "$dir/node" --ignore-scripts "node-bin-linux-$cpu@npm:node-linux-$cpu@$node_version" || return
  mkdir -p "$dir/node/node_modules/node/bin"
  ln -sf "../../node-bin-linux-$cpu/bin/node" "$dir/node/node_modules/node/bin/node"
}

from_pypi() {
  "$dir/uv/bin/uv" venv -q --clear -p '>=3.11,<3.13' "$dir/$1" &&
    VIRTUAL_ENV=$dir/$1 "$dir/uv/bin/uv" pip install -q "${@:2}"
}

uv() { python3 -m venv "$dir/uv" && "$dir/uv/bin/pip" install -q uv==0.13.9; }

# NAME WHAT COMMAND...: unless just that is there.
place() {
  [[ $only == "  " || $only == *" $1 "* ]] || return 0
  [[ $(cat "$dir/$1/.installed" 2>/dev/null) != "$2" ]] || return 0
  local began=$SECONDS
  rm -rf "${dir:?}/$1"
  if "${@:3}" >"$dir/$1.log" 2>&1; then
    printf '%s' "$2" >"$dir/$1/.installed"
    printf '%s: %s s\n' "$1" $((SECONDS - began))
  else
    printf 'NOT INSTALLED: %s, see %s\n' "$1" "$dir/$1.log"
  fi
}

mkdir -p "$dir"
{
  place uv 0.13.9 uv
  # shellcheck disable=SC2086 # several packages
  place python "$python" from_pypi python $python
  place aider "$aider" from_pypi aider "$aider"
} &
if command -v npm >/dev/null; then
  place node "$node_version" node
  place openclaw "$openclaw" from_npm openclaw "$openclaw"
  # shellcheck disable=SC2086
  place javascript "$javascript" from_npm javascript $javascript
  place continue "$continue" from_npm continue "$continue"
  [[ -n ${CODEX_BIN:-} ]] || place codex "$codex" from_npm codex "$codex"
  place opencode "$opencode" from_npm opencode "$opencode"
  place cline "$cline" from_npm cline "$cline"
else
  printf 'NOT INSTALLED: all clients of npm: there is none\n'
fi
wait
rm -rf "$dir/.cache"
