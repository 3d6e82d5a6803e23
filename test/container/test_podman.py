"""podman with doppel-oci as its runtime, as root and as an ordinary user."""
import json
import os
import resource
import shutil
import signal
import subprocess

from harness.bundle import APPLETS, cgroups_named
from harness.case import Skip

PATIENCE = 180


class Podman:
    """podman with storage of its own, and one image made of busybox."""

    def __init__(self, t, uid=0):
        self.runtime = t.build / "src/oci/doppel-oci"
        if not shutil.which("podman") or not shutil.which("conmon"):
            raise Skip("podman is not installed")
        if not self.runtime.exists():
            raise Skip("doppel-oci is not built; its libraries are missing")
        if os.geteuid() != 0:
            raise Skip("needs root")
        self.t, self.uid = t, uid
        self.home = t.tmp / "home"
        for name in ("home", "home/run", "home/tmp"):
            (t.tmp / name).mkdir()
        self.write_configuration()
        self.busybox = t.guest("busybox-static/bin/busybox")
        self.give_away()
        self.import_image()

    def write_configuration(self):
        """podman raises limits on its own account, for which not every root has the right."""
        limits = [f"{name}={min(1024, *resource.getrlimit(number))}:"
                  f"{min(1024, *resource.getrlimit(number))}"
                  for name, number in (("nofile", resource.RLIMIT_NOFILE),
                                       ("nproc", resource.RLIMIT_NPROC))]
        (self.home / "containers.conf").write_text(
            f"[containers]\ndefault_ulimits = {json.dumps(limits)}\n"
            f"[engine]\nevents_logger = \"file\"\ncgroup_manager = \"cgroupfs\"\n"
            f"runtime = \"{self.runtime}\"\ntmp_dir = \"{self.home}/run/libpod\"\n"
            "lock_type = \"file\"\n")
        (self.home / "storage.conf").write_text(
            f"[storage]\ndriver = \"vfs\"\ngraphroot = \"{self.home}/graph\"\n"
            f"runroot = \"{self.home}/run/storage\"\nrootless_storage_path = \"{self.home}/graph\"\n"
            "[storage.options]\nignore_chown_errors = \"true\"\n")
        (self.home / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')

    def give_away(self):
        os.chmod(self.t.tmp, 0o755)
        if self.uid:
            for path in (self.home, *self.home.iterdir()):
                os.chown(path, self.uid, self.uid)

    def raw(self, *args, **options):
        env = dict(PATH=os.environ["PATH"], HOME=str(self.home), TMPDIR=str(self.home / "tmp"),
                   XDG_RUNTIME_DIR=str(self.home / "run"),
                   CONTAINERS_CONF=str(self.home / "containers.conf"),
                   CONTAINERS_STORAGE_CONF=str(self.home / "storage.conf"))
        if self.uid:
            options.update(user=self.uid, group=self.uid, extra_groups=[])
        options.setdefault("stdin", subprocess.DEVNULL)
        log = self.home / "output"
        # What stays behind inherits these: a pipe would not end with the command.
        with open(log, "wb") as out, open(self.home / "errors", "wb") as err:
            done = subprocess.run(["podman", *map(str, args)], env=env, cwd=self.home, stdout=out,
                                  stderr=err, timeout=PATIENCE, **options)
        done.stdout = log.read_text(errors="replace")
        done.stderr = (self.home / "errors").read_text(errors="replace")
        return done

    def __call__(self, *args, status=0, **options):
        done = self.raw(*args, **options)
        assert done.returncode == status, \
            f"podman {args}: status {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def run(self, *args, **options):
        return self("run", "--network", "none", *args, **options)

    def import_image(self):
        root = self.t.tmp / "image"
        for name in ("bin", "etc", "tmp"):
            (root / name).mkdir(parents=True)
        shutil.copy(self.busybox, root / "bin/busybox")
        for name in APPLETS:
            (root / "bin" / name).symlink_to("busybox")
        archive = self.home / "image.tar"
        subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
        done = self.raw("import", archive, "bb")
        if done.returncode:
            raise Skip(f"podman can't keep images here: {done.stderr.strip()[-200:]}")

    def close(self):
        self.raw("pod", "rm", "--all", "--force", "--time", "0")
        self.raw("rm", "--all", "--force", "--time", "0")
        # What holds an ordinary user's namespaces between commands.
        for file in self.home.rglob("pause.pid"):
            os.kill(int(file.read_text()), signal.SIGKILL)


def with_podman(check, uid=0):
    """The test gets podman, and what it leaves behind is removed whether it holds or not."""
    def test(t):
        podman = Podman(t, uid)
        try:
            check(podman)
        finally:
            podman.close()
    test.__name__ = "test_" + check.__name__.split("_", 1)[1] + ("_rootless" if uid else "")
    return test


@with_podman
def test_run(podman):
    assert podman.run("--rm", "bb", "echo", "hello") == "hello\n"
    podman.run("--rm", "bb", "sh", "-c", "exit 7", status=7)
    missing = podman.raw("run", "--rm", "--network", "none", "bb", "no-such-program")
    assert missing.returncode == 127, missing  # as podman promises for a command not found
    podman.run("--rm", "bb", "/etc", status=126)
    assert podman("run", "--rm", "--network", "host", "bb", "echo", "host") == "host\n"


@with_podman
def test_the_runtime_is_ours(podman):
    podman.run("-d", "--name", "one", "bb", "sleep", "1000")
    seen = json.loads(podman("inspect", "one"))[0]
    assert seen["OCIRuntime"].endswith("doppel-oci"), seen["OCIRuntime"]


@with_podman
def test_options(podman):
    out = podman.run("--rm", "--user", "5:6", "--workdir", "/tmp", "--env", "A=b", "--hostname",
                     "named", "--read-only", "--cap-drop", "all", "--pids-limit", "50",
                     "--memory", "64m", "--volume", f"{podman.home}:/mnt:ro",
                     "--tmpfs", "/tmp/t", "bb", "sh", "-c",
                     "id -u; pwd; echo $A; hostname; touch /x || echo refused; "
                     "grep CapEff /proc/self/status; test -f /mnt/image.tar && echo bound")
    for text in ("5\n/tmp\nb\nnamed\n", "refused", "0000000000000000", "bound"):
        assert text in out, (text, out)


@with_podman
def test_life(podman):
    podman.run("-d", "--name", "one", "bb", "sleep", "1000")
    assert podman("exec", "--env", "A=b", "one", "sh", "-c", "echo $A") == "b\n"
    assert "sleep 1000" in podman("top", "one", "args")
    podman("pause", "one")
    assert podman("inspect", "--format", "{{.State.Status}}", "one") == "paused\n"
    podman("unpause", "one")
    podman("exec", "one", "true")
    podman("kill", "--signal", "KILL", "one")
    assert podman("wait", "one") == "137\n"
    podman("start", "one")
    podman("exec", "one", "true")
    podman("stop", "--time", "0", "one")
    name = podman("inspect", "--format", "{{.Id}}", "one").strip()
    podman("rm", "one")
    assert not cgroups_named(f"libpod-{name}"), "left cgroups"


@with_podman
def test_create_then_start_attached(podman):
    podman("create", "--name", "one", "--network", "none", "bb", "sh", "-c", "echo out; exit 3")
    done = podman.raw("start", "--attach", "one")
    assert (done.returncode, done.stdout) == (3, "out\n"), done
    assert podman("logs", "one") == "out\n"


@with_podman
def test_terminal(podman):
    assert "/dev/pts/0" in podman.run("--rm", "-t", "bb", "tty")


def check_healthcheck(podman):
    podman.run("-d", "--name", "one", "--health-cmd", "test ! -e /tmp/ill", "--health-interval",
               "disable", "--health-retries", "1", "bb", "sleep", "1000")
    podman("healthcheck", "run", "one")
    podman("exec", "one", "touch", "/tmp/ill")
    podman("healthcheck", "run", "one", status=1)


@with_podman
def test_update_by_stats(podman):
    podman.run("-d", "--name", "one", "--memory", "64m", "bb", "sleep", "1000")
    assert "67.11MB" in podman("stats", "--no-stream", "one")


def check_build(podman):
    folder = podman.home / "build"
    folder.mkdir(mode=0o755)
    (folder / "file").write_text("copied")
    (folder / "Containerfile").write_text(
        "FROM localhost/bb\nRUN echo built > /made && id -u >> /made\nCOPY file /file\n"
        "RUN cat /file >> /made\nCMD cat /made\n")
    done = podman.raw("build", "--isolation", "oci", "--network", "none", "--runtime",
                      podman.runtime, "-t", "made", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert podman.run("--rm", "made") == "built\n0\ncopied"


def check_pod(podman, pause=True):
    """With the process that holds the namespaces, which podman calls its infra container."""
    done = podman.raw("pod", "create", "--name", "pod", "--network", "none", "--share",
                      "net,ipc,uts,pid")
    if done.returncode and "pause" in done.stderr:
        raise Skip(f"podman's own pod process is missing: {done.stderr.strip()[-150:]}")
    assert done.returncode == 0, done.stderr
    podman("run", "-d", "--pod", "pod", "--name", "one", "bb", "sleep", "1000")
    out = podman("run", "--rm", "--pod", "pod", "bb", "ps")
    assert "sleep 1000" in out and "catatonit" in out, out
    if pause:
        podman("pod", "pause", "pod")
        assert "Paused" in podman("pod", "ps")
        podman("pod", "unpause", "pod")
    assert podman("exec", "one", "echo", "again") == "again\n"
    podman("pod", "stop", "--time", "0", "pod")
    podman("pod", "start", "pod")
    podman("exec", "one", "true")
    podman("pod", "rm", "--force", "--time", "0", "pod")
    assert not podman("ps", "--all", "--quiet")


@with_podman
def test_pod_without_its_own_process(podman):
    podman("pod", "create", "--name", "pod", "--infra=false")
    assert podman("run", "--rm", "--network", "none", "--pod", "pod", "bb", "echo", "in") == "in\n"


test_build = with_podman(check_build)
test_healthcheck = with_podman(check_healthcheck)
test_pod = with_podman(check_pod)


# ---- as an ordinary user, who maps himself to root ----

USER = 12345


def check_run(podman):
    out = podman.run("--rm", "bb", "sh", "-c", "id -u; head -1 /proc/self/uid_map; exit 4",
                     status=4)
    assert out.split()[:3] == ["0", "0", str(USER)], out
    podman.run("-d", "--name", "one", "bb", "sleep", "1000")
    assert podman("exec", "one", "echo", "inside") == "inside\n"
    podman("kill", "one")
    assert podman("wait", "one") == "137\n"


def check_narrow_pod(podman):
    check_pod(podman, pause=False)  # podman itself refuses that without cgroups of version 2


test_rootless = with_podman(check_run, USER)
test_rootless_build = with_podman(check_build, USER)
test_rootless_healthcheck = with_podman(check_healthcheck, USER)
test_rootless_pod = with_podman(check_narrow_pod, USER)
