"""Debian's stock kernel, unmodified, to a shell and to its end."""
import json
import signal
import subprocess

from harness.case import PATIENCE, resident_kib
from harness.linux import PROMPT, boot, linux_args, power_off, shell

CTRL_A = "\x01"
CTRL_C = "\x03"


def test_shell_on_one_processor(t):
    terminal = shell(t)
    terminal.command("echo $((6 * 7)) $(nproc)", "42 1")
    power_off(terminal)


def test_shell_on_four_processors(t):
    terminal = shell(t, "--cpus", "4")
    terminal.command("echo $(nproc) processors", "4 processors")
    terminal.command("cat /proc/interrupts | grep -c LOC; echo $?done", "0done")
    power_off(terminal)


def test_ctrl_c_reaches_the_guest(t):
    """And not doppel: the shell is there afterwards."""
    terminal = shell(t)
    # Before the shell has left its line editor Ctrl-C would be a key like others.
    terminal.command("echo now sle''eping; sleep 100000", "now sleeping")
    terminal.send(CTRL_C)
    terminal.expect(PROMPT)
    terminal.command("echo still $((1 + 1)) here", "still 2 here")
    power_off(terminal)


def test_ctrl_a_x_ends_the_run(t):
    terminal = shell(t)
    assert terminal.is_raw()
    terminal.send(CTRL_A + "x")
    assert terminal.wait() == 4
    terminal.check_restored()


def test_ctrl_a_keys(t):
    """Ctrl-A h shows the keys, Ctrl-A Ctrl-A is the guest's."""
    terminal = shell(t)
    terminal.send(CTRL_A + "h")
    terminal.expect("Ctrl-A x")
    terminal.command("echo now rea''ding; cat -v", "now reading")
    terminal.send(CTRL_A + CTRL_A + "b\n")
    terminal.expect("^Ab\r\n^Ab")  # its echo, and cat's
    terminal.send(CTRL_C)
    terminal.send(CTRL_A + "x")
    assert terminal.wait() == 4


def test_sigterm_ends_the_run_and_puts_the_terminal_back(t):
    terminal = shell(t)
    terminal.signal(signal.SIGTERM)
    assert terminal.wait() == 4
    terminal.check_restored()


def test_sighup_ends_the_run(t):
    terminal = shell(t)
    terminal.signal(signal.SIGHUP)
    assert terminal.wait() == 4
    terminal.check_restored()


def test_sigkill_leaves_no_raw_terminal(t):
    terminal = shell(t)
    assert terminal.is_raw()
    terminal.signal(signal.SIGKILL)
    terminal.wait()
    terminal.wait_for(lambda: terminal.modes() == terminal.modes_before)


def test_suspend_and_continue(t):
    """Ctrl-A z and SIGTSTP stop doppel with the terminal put back; SIGCONT goes on."""
    terminal = shell(t)
    for stop in (lambda: terminal.send(CTRL_A + "z"), lambda: terminal.signal(signal.SIGTSTP)):
        stop()
        terminal.wait_for(terminal.is_stopped)
        terminal.check_restored()
        terminal.signal(signal.SIGCONT)
        terminal.wait_for(terminal.is_raw)
        terminal.command("echo back $((3 + 4))", "back 7")
    power_off(terminal)


def test_the_images_own_code_at_its_64_bit_entry(t):
    """The decompressor in the image boots the same kernel."""
    power_off(shell(t, "--boot", "64"))


def test_the_images_own_code_at_its_32_bit_entry(t):
    power_off(shell(t, "--boot", "32"))


def test_the_images_own_code_in_real_mode(t):
    """The setup code gets the memory map from the BIOS."""
    terminal = shell(t, "--boot", "16")
    terminal.command("dmesg | grep -c 'e820.*usa''ble'; echo ma''p", "map")
    power_off(terminal)


def test_reboot_without_no_reboot_starts_again(t):
    terminal = t.terminal("run", "--kernel", t.kernel(), "--initrd", t.initramfs(), "--append",
                          "console=ttyS0 quiet", "--memory", "256M")
    terminal.expect(PROMPT)
    terminal.send("reboot -f\n")
    terminal.expect("processor(s)")
    terminal.expect(PROMPT)
    power_off(terminal)


def test_reboot_under_no_reboot_ends_with_0(t):
    terminal = shell(t)
    terminal.send("reboot -f\n")
    assert terminal.wait() == 0


def test_piped_input_is_kept_until_the_guest_reads_it(t):
    """Its end does not end the run either."""
    done = t.run(*linux_args(t), stdin=None, input=b"echo kept $((2 + 3))\npoweroff -f\n")
    assert done.returncode == 0, done
    assert b"kept 5" in done.stdout, done.stdout[-2000:]


def test_output_that_nobody_reads_stalls_nothing(t):
    """The pipe is full long before the guest is done, and yet it ends by itself."""
    process = t.popen(*linux_args(t), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        process.stdin.write(b"seq 1 60000; poweroff -f\n")
        process.stdin.close()
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_console_file(t):
    path = t.tmp / "log"
    done = t.run(*linux_args(t), "--console", f"file:{path}", "--append",
                 "console=ttyS0 panic=-1 rdinit=/nothing init=/nothing root=/dev/nothing")
    assert done.returncode == 0 and done.stdout == b"", done
    assert b"Linux version" in path.read_bytes()


def test_stats_as_json(t):
    # An engine that counts instructions.
    done = boot(t, "--engine", "emulate", "--stats", "--json")
    assert done.returncode == 0, done
    stats = json.loads(done.stderr)
    assert stats["total"]["instructions"] > 100_000_000
    assert stats["total"]["direct"] == 0
    assert len(stats["vcpus"]) == 1


def own_memory_kib(pid):
    """Beside the guest's memory, however often it is mapped."""
    own, guest = 0, False
    with open(f"/proc/{pid}/smaps", encoding="ascii") as maps:
        for line in maps:
            if "-" in line.split(" ")[0]:
                guest = "guest-memory" in line
            elif line.startswith("Pss:") and not guest:
                own += int(line.split()[1])
    return own


def own_memory_after_a_boot(t, *options):
    terminal = shell(t, "--memory", "256M", *options)
    own = own_memory_kib(terminal.process.pid)
    assert resident_kib(terminal.process.pid) > own
    power_off(terminal)
    return own


def test_own_memory_is_small(t):
    """At most 32 MiB once it has booted, and 96 on engines that keep translated code."""
    own = own_memory_after_a_boot(t, "--engine", "emulate")
    assert 0 < own < 32 << 10, f"{own} KiB"
    own = own_memory_after_a_boot(t)
    assert 0 < own < 96 << 10, f"{own} KiB"
