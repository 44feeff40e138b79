#!/usr/bin/env bash
# enter.sh COMMAND [ARG...]: runs COMMAND as the ordinary user `tester` beside a real
# `systemd --user` and a real journald, in namespaces of their own; ends with COMMAND's exit code.
# Needs root and the distribution's package systemd. The host's own systemd is left alone, nothing
# that is written inside reaches its disks, and whatever ends this script ends everything inside.
#
#   LAB_PATHS  further directories, divided by `:`, that tester must be able to read,
#                           also below a parent that is closed to others, like /root
#   LAB_USERNS `no`: as on a host without unprivileged user namespaces
#
# tester may ask for what needs root: write journald-stop, -start, -freeze, -thaw or -sync as a line
# to the FIFO /run/lab/control, then read one line (`ok`, or what is wrong) from /run/lab/answer.
set -euo pipefail
umask 022
export PATH=$PATH:/usr/sbin:/sbin
self=$(readlink -f "${BASH_SOURCE[0]}")

# 1. On the host, but with mounts, network, IPC and host name of its own.
if [[ -z ${LAB_STAGE-} ]]; then
  LAB_STAGE=outside exec unshare --mount --net --ipc --uts -- "$self" "$@"
fi

# 2. Outside the process namespace: the one that can be killed, and that cleans up.
if [[ $LAB_STAGE == outside ]]; then
  mount -t cgroup2 cgroup2 /sys/fs/cgroup # also where the host still uses version 1
  group=/sys/fs/cgroup/claude-proxy-lab-$$ && mkdir "$group"
  # Cgroups outlive namespaces. In a session of its own, this outlives even a SIGKILL of the script:
  # its input ends when the script does.
  exec {alive}> >(
    exec setsid bash -c 'cat; echo 1 >"$0/cgroup.kill"
      until find "$0" -depth -type d -exec rmdir {} + 2>&1; [[ ! -d $0 ]]; do sleep 0.02; done' \
      "$group" >/dev/null 2>&1
  )
  cleaner=$!
  export LAB_STAGE=inside
  # `unshare --fork` ignores SIGTERM, so it dies by SIGKILL: by the trap, or because its parent did.
  (
    exec {alive}>&-
    echo "$BASHPID" >"$group/cgroup.procs"
    exec setpriv --pdeathsig KILL unshare --mount --cgroup --pid --fork --kill-child -- "$self" "$@"
  ) <&0 & # else bash gives /dev/null to what it puts into the background
  child=$!
  trap 'kill -KILL "$child" 2>/dev/null || true' TERM INT HUP
  code=0
  wait "$child" || code=$?
  wait "$child" 2>/dev/null || true # a trap ends the first wait early
  exec {alive}>&-
  wait "$cleaner" || true
  exit "$code"
fi

# 3. Process 1 inside. The root is the host's under an overlay in memory: whatever is changed here,
# modes of directories too, stays here. /run is the host's no more, so it is free for that.
unset LAB_STAGE
names=$(cat /etc/resolv.conf)
lab=/run
mount -t tmpfs -o mode=755 lab $lab
new=$lab/root
overlay() { # DIRECTORY MOUNT-POINT
  local layers
  layers=$(mktemp -d $lab/layers.XXXX)
  mkdir -p "$layers/upper" "$layers/work" "$2"
  chmod --reference="$1" "$layers/upper"
  mount -t overlay -o "lowerdir=$1,upperdir=$layers/upper,workdir=$layers/work" overlay "$2"
}
overlay / $new
mount -t proc proc $new/proc
mount -t sysfs sysfs $new/sys
mount -t cgroup2 cgroup2 $new/sys/fs/cgroup
mount --rbind /dev $new/dev
mkdir -p $new/var/log/journal # missing where journals are volatile
for at in dev/shm tmp var/tmp; do mount -t tmpfs -o mode=1777 lab $new/$at; done
for at in run home var/log/journal; do mount -t tmpfs -o mode=755 lab $new/$at; done

# What tester reads: the repository and what else is named, with parents that can be passed.
IFS=: read -ra paths <<<"${self%/tests/systemd/*}:${LAB_PATHS-}"
for path in "${paths[@]}"; do
  [[ -n $path ]] || continue
  path=$(readlink -f "$path")
  # Another file system, or covered above: it is not in the overlay of / and gets one of its own.
  if [[ ! -e $new$path ]] || mountpoint -q "$path"; then overlay "$path" "$new$path"; fi
  while [[ -n $path ]]; do chmod a+rx "$new$path" && path=${path%/*}; done
done
install -D -m 644 /dev/stdin "$new$(readlink -f /etc/resolv.conf)" <<<"$names"

# The last three are where systemd 252, 254 and later build the sandboxes of units.
mkdir -p $new/run/{lab,credentials,systemd/{system,journal,journald.conf.d,unit-root,mount-rootfs,propagate}}
sed -i '/^tester:/d; /^[^:]*:[^:]*:1000:/d' $new/etc/passwd $new/etc/group
echo 'tester:x:1000:1000::/home/tester:/bin/bash' >>$new/etc/passwd
echo 'tester:x:1000:' >>$new/etc/group
rm -rf $new/etc/systemd/user $new/var/lib/systemd/linger # what the host starts for its own users
[[ -s $new/etc/machine-id ]] || systemd-id128 new >$new/etc/machine-id
printf '[Journal]\nStorage=persistent\nReadKMsg=no\nAudit=no\nRateLimitBurst=0\n' \
  >$new/run/systemd/journald.conf.d/lab.conf
touch $new/run/systemd/journal/flushed # "/var is there": journald writes to it at once
install -d -m 700 -o 1000 -g 1000 $new/run/user/1000 $new/home/tester
mkfifo -m 622 $new/run/lab/control && mkfifo -m 644 $new/run/lab/answer
python3 -c 'if True: # iproute2 need not be there: SIOCSIFFLAGS, IFF_UP
  import fcntl, socket, struct
  fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh22x", b"lo", 1))'

export LAB_DIRECTORY=$PWD
# A process in a chroot may not make a user namespace: the kernel's answer is the one of such hosts.
if [[ ${LAB_USERNS-} == no ]]; then
  exec chroot $new "${self%/*}/session.sh" "$@"
fi
cd $new
pivot_root . .
umount -l .
exec "${self%/*}/session.sh" "$@"
