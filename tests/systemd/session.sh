#!/usr/bin/env bash
# Process 1 of what enter.sh has made: journald, the user manager, then COMMAND as tester.
set -euo pipefail
uid=1000
runtime=/run/user/$uid
groups=/sys/fs/cgroup

# journald reads a message's unit from its cgroup, so the tree must be the one of a real login.
system=system.slice/systemd-journald.service
user=user.slice/user-$uid.slice
manager=$user/user@$uid.service
mkdir -p $groups/{init.scope,$system,$manager,$user/session-1.scope}
enter() { echo "$BASHPID" >"$groups/$1/cgroup.procs"; } # moves the shell that calls it
enter init.scope
for group in . user.slice $user $manager; do
  for controller in $(<$groups/$group/cgroup.controllers); do # few where the host has version 1
    echo "+$controller" >$groups/$group/cgroup.subtree_control || true
  done
done
chown $uid:$uid $groups/$manager $groups/$manager/cgroup.{procs,threads,subtree_control}

wait_for() { # COMMAND...
  for ((i = 0; i < 1000; i++)); do
    "$@" && return
    sleep 0.01
  done
  echo "not within 10 s: $*" >&2
  return 1
}

# Whoever runs this is journald's parent, and does for tester what only root may.
serve() {
  local journald= request
  start() {
    [[ -z $journald ]] || return
    rm -f /run/systemd/journal/{socket,stdout,dev-log}
    env -i /lib/systemd/systemd-journald 2>/dev/null &
    journald=$!
    wait_for test -S /run/systemd/journal/stdout
  }
  stop() {
    kill -CONT "$journald"
    kill "$journald"
    wait "$journald" || true
    journald=
  }
  start
  exec 3<>/run/lab/control # opened for both: so it never ends
  while read -r request <&3; do
    case $request in
      journald-start) start ;;
      journald-stop) stop ;;
      journald-freeze) kill -STOP "$journald" ;;
      journald-thaw) kill -CONT "$journald" ;;
      journald-sync) journalctl --sync ;;
      *) false ;;
    esac && echo ok >/run/lab/answer || echo "failed: $request" >/run/lab/answer
  done
}
(enter $system && serve) &
wait_for test -S /run/systemd/journal/stdout

# Nothing of this shell's surroundings reaches the manager, as at a real login.
tester=(setpriv --reuid $uid --regid $uid --clear-groups --)
home=(HOME=/home/tester USER=tester LOGNAME=tester SHELL=/bin/bash XDG_RUNTIME_DIR=$runtime)
path=/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games
(
  enter $manager
  cd /
  exec env -i "${home[@]}" LANG=C.UTF-8 PATH=$path "${tester[@]}" \
    systemd-cat -t systemd /lib/systemd/systemd --user --log-target=journal
) &
process=$!
wait_for test -S $runtime/systemd/private

# What was in the environment stays for COMMAND, except for where things are.
without=()
for name in $(compgen -e); do
  case $name in XDG_* | DBUS_* | CLAUDE_* | ANTHROPIC_* | LAB_*) without+=(-u "$name") ;; esac
done
code=0
(
  enter $user/session-1.scope
  cd "$LAB_DIRECTORY" 2>/dev/null || cd / # where enter.sh was called, if that exists here
  # Bash has switched SIGINT and SIGQUIT off for what it puts into the background, as enter.sh did.
  exec env "${without[@]}" "${home[@]}" LAB_INSIDE="${LAB_USERNS:-yes}" --default-signal=INT,QUIT "${tester[@]}" "$@"
) || code=$?
env -i "${home[@]}" "${tester[@]}" systemctl --user exit || true
wait $process || true
exit $code
