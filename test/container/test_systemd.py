"""--systemd-cgroup: with a systemd of the test's own, shut in namespaces, and without any."""
import os
import pathlib
import shutil
import subprocess
import uuid

from harness.bundle import Bundle
from harness.case import Skip

SYSTEMD = "/lib/systemd/systemd"
HIERARCHIES = "/sys/fs/cgroup"

# Into groups of its own in every hierarchy; from the namespaces made behind that it sees no others.
ENTER = """
for folder in $(find {top} -maxdepth 1 -mindepth 1 -type d) {top}; do
    [ -e $folder/cgroup.procs ] && mkdir -p $folder/{name} || continue
    case $folder in *cpuset) for f in cpus mems; do
        cat $folder/cpuset.$f > $folder/{name}/cpuset.$f; done;; esac
    echo $$ > $folder/{name}/cgroup.procs || exit 77
done
exec unshare --mount --cgroup --pid --fork --kill-child --mount-proc --propagation private sh -c '{inside}'
"""

INSIDE = """
umount -R {top} && mount -t tmpfs none {top} || exit 77
show() {{ mkdir {top}/$1 && mount -t $2 $3 none {top}/$1 || rmdir {top}/$1; }}
if [ -e /proc/self/ns/cgroup ] && grep -q name=systemd /proc/self/cgroup; then
    show systemd cgroup "-o none,name=systemd"; show unified cgroup2
    for name in cpu memory pids; do show $name cgroup "-o $name"; done
else
    mount -t cgroup2 none {top}
fi
mount -t tmpfs none /run/systemd && mkdir /run/systemd/system || exit 77
dbus-daemon --session --address=unix:path=$XDG_RUNTIME_DIR/bus --nofork --nopidfile &
until [ -S $XDG_RUNTIME_DIR/bus ]; do sleep 0.05; done
{systemd} --user > $XDG_RUNTIME_DIR/log 2>&1 &
tries=0
until busctl --user status org.freedesktop.systemd1 > /dev/null 2>&1; do
    sleep 0.1; tries=$((tries + 1)); [ $tries -lt 300 ] || exit 77
done
. {script}
"""


def with_systemd(t, b, script):
    """Runs the script where busctl --user reaches a systemd; what it printed."""
    for program in (SYSTEMD, "busctl", "dbus-daemon", "systemctl", "unshare"):
        if not shutil.which(program):
            raise Skip(f"{program} is not installed")
    if not pathlib.Path("/run/systemd").is_dir():
        raise Skip("/run/systemd is not there to be mounted over")
    b.write()
    runtime = t.tmp / "run"
    runtime.mkdir(mode=0o700)
    name = "test-systemd-" + uuid.uuid4().hex[:8]
    (t.tmp / "script").write_text(
        f"oci=\"{b.oci} --root {b.state} --rootless true --systemd-cgroup\"\n"
        f"id={b.id}\nbundle={b.path}\n{script}\n")
    inside = INSIDE.format(top=HIERARCHIES, systemd=SYSTEMD, script=t.tmp / "script")
    env = dict(os.environ, XDG_RUNTIME_DIR=str(runtime),
               DBUS_SESSION_BUS_ADDRESS=f"unix:path={runtime}/bus")
    with open(t.tmp / "systemd.log", "w+") as log:
        try:
            done = subprocess.run(["sh", "-c", ENTER.format(top=HIERARCHIES, name=name,
                                                            inside=inside)], env=env,
                                  stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=120)
        finally:
            remove_groups(name)
        log.seek(0)
        text = log.read()
    if done.returncode == 77:
        raise Skip(f"no systemd can be run here: {text[-200:]}")
    return done, text


def remove_groups(name):
    for folder, _, _ in os.walk(HIERARCHIES, topdown=False):
        if f"/{name}" in folder:
            try:
                os.rmdir(folder)
            except OSError:
                pass


SHOW = "systemctl --user show $id.scope -p ActiveState -p Slice -p TasksMax -p Delegate"


def test_a_scope_is_asked_for(t):
    b = Bundle(t).sh("while :; do sleep 0.05; done")
    b.linux["cgroupsPath"] = f"user-test.slice::{b.id}"
    b.linux["resources"]["pids"] = dict(limit=33)
    done, text = with_systemd(t, b, f"""
$oci create --bundle $bundle $id < /dev/null > /dev/null || exit 1
{SHOW}
grep scope /proc/$($oci state $id | grep -o '"pid": *[0-9]*' | grep -o '[0-9]*')/cgroup
$oci start $id && $oci update --pids-limit 44 $id && {SHOW}
$oci delete --force $id && {SHOW}; $oci state $id
systemctl --user list-units --all | grep -c $id
find {HIERARCHIES} -name "*$id*"
echo end""")
    assert "ActiveState=active" in text and "TasksMax=33" in text and "Delegate=yes" in text, text
    assert "Slice=user-test.slice" in text, text
    assert f"user.slice/user-test.slice/{b.id}.scope" in text, text
    assert "TasksMax=44" in text, text
    assert "ActiveState=inactive" in text and f"container {b.id} does not exist" in text, text
    assert text.endswith("0\nend\n"), text


def test_a_scope_goes_with_its_container(t):
    b = Bundle(t).sh("echo inside; exit 5")
    b.linux["cgroupsPath"] = f"user.slice::{b.id}"
    done, text = with_systemd(t, b, f"""
$oci run --bundle $bundle $id; echo status $?
until [ "$(systemctl --user show $id.scope -p ActiveState)" = ActiveState=inactive ]; do
    sleep 0.05
done
find {HIERARCHIES} -name "*$id*"
echo end""")
    assert text.endswith("inside\nstatus 5\nend\n"), text


def test_a_name_that_systemd_has_already(t):
    b = Bundle(t).sh("while :; do sleep 0.05; done")
    b.linux["cgroupsPath"] = f"user.slice::{b.id}"
    done, text = with_systemd(t, b, """
$oci create --bundle $bundle $id < /dev/null > /dev/null || exit 1
$oci run --bundle $bundle another; echo status $?
$oci delete --force $id; $oci list --quiet; echo end""")
    assert f"doppel-oci: --systemd-cgroup: systemd does not do it: Call failed: Unit {b.id}.scope " \
           "was already loaded" in text.replace("already exists", "was already loaded"), text
    assert text.endswith("status 1\nend\n"), text


def test_without_systemd(t):
    b = Bundle(t)
    b.linux["cgroupsPath"] = f"user.slice:test:{b.id}"
    b.write()
    env = dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=f"unix:path={t.tmp}/nothing")
    done = b.command("--systemd-cgroup", "run", "--bundle", b.path, b.id, env=env)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done
    assert done.stderr.startswith("doppel-oci: --systemd-cgroup: "), done
    assert "leave the option out" in done.stderr, done
    b.expect_nothing_left()
