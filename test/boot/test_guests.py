"""Guests that no one here wrote, beside the stock kernel."""
from harness.case import slow
from harness.linux import power_off, shell

CTRL_A = "\x01"
INSTALLER = ("debian-installer-12-netboot-amd64/usr/lib/debian-installer/images/12/amd64/text/"
             "debian-installer/amd64")


def memtest(t, name):
    """On its serial console, where it redraws the lines of its screen that change."""
    return t.terminal("run", "--kernel", t.guest(f"memtest86+/boot/{name}"), "--append",
                      "console=ttyS0,115200", "--memory", "64M")


def first_tests(t, name):
    terminal = memtest(t, name)
    # The screen is sent now and then only: not every test is seen to begin, but one of these five is.
    for text in ("Memtest86+", "64MB", "[Moving inversions"):
        terminal.expect(text)
    terminal.expect("Errors: 0")
    terminal.send(CTRL_A + "x")
    assert terminal.wait() == 4


def whole_pass(t, name):
    terminal = memtest(t, name)
    terminal.expect("Pass:  1        Errors: 0", patience=3000)
    terminal.send(CTRL_A + "x")
    assert terminal.wait() == 4


def test_memtest86_x64_begins(t):
    first_tests(t, "memtest86+x64.bin")


def test_memtest86_ia32_begins(t):
    first_tests(t, "memtest86+ia32.bin")


@slow
def test_memtest86_x64_completes_a_pass(t):
    whole_pass(t, "memtest86+x64.bin")


@slow
def test_memtest86_ia32_completes_a_pass(t):
    whole_pass(t, "memtest86+ia32.bin")


def test_32_bit_kernel_to_a_shell(t):
    terminal = shell(t, "--kernel", t.guest("linux-image-686-pae:i386/boot/vmlinuz-*"), "--initrd",
                     t.initramfs32())
    terminal.command("echo $(uname -m) machine", "i686 machine")
    power_off(terminal)


def test_debian_installer_to_its_first_dialog(t):
    terminal = t.terminal("run", "--kernel", t.guest(f"{INSTALLER}/linux"), "--initrd",
                          t.guest(f"{INSTALLER}/initrd.gz"), "--append", "console=ttyS0",
                          "--memory", "1G")
    terminal.expect("Select a language")
    terminal.send(CTRL_A + "x")
    assert terminal.wait() == 4


def test_vmlinux_at_its_elf_entry(t):
    power_off(shell(t, "--kernel", t.guest("vmlinux"), "--boot", "payload"))


def test_vmlinux_at_its_pvh_entry(t):
    """Which is what auto takes when the note is there."""
    power_off(shell(t, "--kernel", t.guest("vmlinux")))
