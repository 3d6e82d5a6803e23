"""Debian's stock kernel with a shell: to its prompt, through some work, and to its end."""
import subprocess

PROMPT = "doppel:/root# "


def linux_args(t, *more):
    """doppel's command line. Of what is said twice the last counts."""
    return ["run", "--kernel", t.kernel(), "--initrd", t.initramfs(), "--append",
            "console=ttyS0 quiet", "--memory", "256M", "--no-reboot", *more]


def shell(t, *more, engine=None):
    """On a terminal, at its prompt. Skips the test where the engine can't be used."""
    if engine:
        t.needs_engine(engine)
        more = ("--engine", engine, *more)
    terminal = t.terminal(*linux_args(t, *more))
    terminal.expect(PROMPT)
    return terminal


def power_off(terminal):
    terminal.send("poweroff -f\n")
    assert terminal.wait() == 0, terminal.output[-2000:]
    terminal.check_restored()


def boot(t, *more):
    """To the shell and off again, without a terminal."""
    return t.run(*linux_args(t, *more), stdin=None, input=b"poweroff -f\n")


def sums(count):
    """Commands for the shell, and the line that each must print."""
    hashed = subprocess.getoutput(f"seq 1 {count} | md5sum")[:8]
    return [(f"echo $(seq 1 {count} | awk '{{ s += $1 * 3 }} END {{ print s }}') sum",
             f"{3 * count * (count + 1) // 2} sum"),
            (f"echo $(seq 1 {count} | gzip -c | gzip -dc | md5sum | cut -c1-8) hash",
             f"{hashed} hash")]


def work(terminal):
    """Processes, pipes, arithmetic, and sums that must come out."""
    for command, line in sums(20000):
        terminal.command(command, line)
    terminal.command("i=0; while [ $i -lt 50 ]; do /bin/true & i=$((i + 1)); done; wait; "
                     "echo $i chil''dren", "50 children")


def works(t, engine, processors):
    """A boot on so many processors, some work, and the end."""
    terminal = shell(t, "--cpus", processors, engine=engine)
    terminal.command("echo $(nproc) processors", f"{processors} processors")
    work(terminal)
    power_off(terminal)
