"""A host with cgroups of one version only: in a mount namespace that shows nothing else."""
import subprocess

from harness.bundle import Bundle
from harness.case import Skip

UNIFIED = ("umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && "
           "mount --make-rprivate / && ")


# Without it, where there is one besides version 1's.
VERSION_1 = ("grep -q ' cgroup ' /proc/self/mounts && "
             "for at in $(grep ' cgroup2 ' /proc/self/mounts | cut -d' ' -f2); do umount $at; done "
             "&& mount --make-rprivate / && ")


def on_unified(b, script, host=UNIFIED):
    b.write()
    probe = subprocess.run(["unshare", "-m", "sh", "-c", host + "true"], check=False,
                           stderr=subprocess.PIPE)
    if probe.returncode:
        raise Skip("no cgroups of that version alone can be had here")
    oci = f"{b.oci} --root {b.state}"
    return subprocess.run(["unshare", "-m", "sh", "-c", host + script.format(
        oci=oci, path=b.path, id=b.id)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=60, check=False)


def test_run(t):
    b = Bundle(t).sh("grep cgroup /proc/self/mounts; cat /proc/self/cgroup; "
                     "head -c 2 /dev/zero | wc -c; (head -c 1 < /dev/kmsg) || echo refused")
    b.linux["devices"] = [dict(path="/dev/kmsg", type="c", major=1, minor=11, fileMode=0o666)]
    done = on_unified(b, "{oci} run --bundle {path} {id}")
    assert done.returncode == 0 and "cgroup2" in done.stdout, done
    assert "0::/\n" in done.stdout and "2\n" in done.stdout, done
    assert "Operation not permitted" in done.stdout and "refused" in done.stdout, done
    b.expect_nothing_left()


def test_life(t):
    b = Bundle(t).sh("while :; do sleep 0.05; done")
    done = on_unified(b, "{oci} create --bundle {path} {id} >/dev/null && {oci} start {id} && "
                         "{oci} pause {id} && {oci} state {id} | grep status && "
                         "{oci} resume {id} && {oci} exec {id} echo inside && "
                         "{oci} events --stats {id} | grep -c usage && "
                         "{oci} delete --force {id} && echo gone")
    for text in ("paused", "inside", "gone"):
        assert text in done.stdout, done
    b.expect_nothing_left()


def test_version_1_only(t):
    b = Bundle(t).sh("while :; do sleep 0.05; done")
    done = on_unified(b, "{oci} create --bundle {path} {id} >/dev/null && {oci} start {id} && "
                         "{oci} exec {id} cat /proc/self/mounts && {oci} pause {id} && "
                         "{oci} state {id} | grep status && {oci} resume {id} && "
                         "{oci} events --stats {id} | grep -c usage && "
                         "{oci} kill --all {id} KILL && {oci} delete --force {id} && echo gone",
                      VERSION_1)
    for text in ("cgroup", "paused", "gone"):
        assert text in done.stdout, done
    assert "cgroup2" not in done.stdout, done
    b.expect_nothing_left()
