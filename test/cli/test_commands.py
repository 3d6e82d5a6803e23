"""The commands that run nothing."""
import json
import os
import pathlib
import re
import subprocess


def test_version(t):
    done = t.run("--version")
    assert done.returncode == 0 and done.stdout.startswith(b"doppel 0."), done


def test_help_lists_every_command_and_each_has_help(t):
    listing = t.run("help").stdout.decode()
    for command in ("run", "verify", "container", "engines", "help"):
        assert f"  {command} " in listing, listing
        done = t.run("help", command)
        assert done.returncode == 0 and done.stdout.startswith(b"doppel " + command.encode())


def test_run_help_names_every_option(t):
    text = t.run("help", "run").stdout.decode()
    for option in ("kernel", "initrd", "append", "module", "boot", "engine", "cpu", "cpus",
                   "memory", "console", "no-reboot", "stats", "debug-exit", "name", "clock", "rng"):
        assert f"--{option}" in text, option
    assert t.run("run", "--help").stdout.decode() == text


def test_engines_says_why(t):
    text = t.run("engines").stdout.decode()
    for engine in ("hardware", "binary", "translate", "emulate"):
        assert engine in text, text
    assert "auto picks it" in text, text


def test_engines_as_json(t):
    engines = json.loads(t.run("engines", "--json").stdout)
    names = [e["name"] for e in engines["engines"]]
    assert engines["auto"] in names
    assert all(e["why"] for e in engines["engines"])
    assert next(e for e in engines["engines"] if e["name"] == "emulate")["usable"]


def test_output_that_cannot_be_written(t):
    with open("/dev/full", "wb") as full:
        done = subprocess.run([t.doppel, "help"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1 and done.stderr.count(b"\n") == 1, done


def test_every_option_is_documented(t):
    """In the help, the man page, the completion and docs/cli.md alike."""
    root = pathlib.Path(__file__).resolve().parents[2]
    options = set(re.findall(r"--[a-z-]+", t.run("help", "run").stdout.decode() +
                             t.run("help", "verify").stdout.decode()))
    man = (root / "data/doppel.1").read_text().replace("\\-", "-")
    for text in (man, (root / "data/doppel.bash").read_text(), (root / "docs/cli.md").read_text()):
        assert options <= set(re.findall(r"--[a-z-]+", text)), options


def test_installed_program_and_library_work(t):
    """Installed elsewhere: pkg-config finds the library, and a program links it."""
    subprocess.run(["meson", "install", "-C", t.build, "--no-rebuild", "--destdir", t.tmp],
                   check=True, stdout=subprocess.DEVNULL)
    prefix = t.tmp / "usr/local"
    assert subprocess.run([prefix / "bin/doppel", "--version"], check=False,
                          stdout=subprocess.DEVNULL).returncode == 0
    assert (prefix / "share/man/man1/doppel.1").exists()
    assert (prefix / "share/bash-completion/completions/doppel").exists()
    pc = next(prefix.glob("lib*/**/doppel.pc"))
    source = t.file("use.c", b'#include <doppel/doppel.h>\n#include <stdio.h>\n'
                             b'int main(void) { puts(doppel_version()); return 0; }\n')
    flags = subprocess.run(["pkg-config", f"--define-variable=prefix={prefix}", "--cflags",
                            "--libs", "doppel"], check=True, stdout=subprocess.PIPE,
                           env={"PKG_CONFIG_PATH": str(pc.parent), "PATH": os.environ["PATH"]})
    subprocess.run(["cc", "-o", t.tmp / "use", source, *flags.stdout.decode().split()], check=True)
    done = subprocess.run([t.tmp / "use"], check=False, stdout=subprocess.PIPE,
                          env={"LD_LIBRARY_PATH": str(pc.parent.parent)})
    assert done.stdout.startswith(b"0."), done


def test_library_exports_only_its_interface(t):
    """No internal name leaves the shared library."""
    library = next((t.build / "src/lib").glob("libdoppel.so"))
    names = subprocess.run(["nm", "-D", "--defined-only", library], check=True,
                           stdout=subprocess.PIPE).stdout.decode()
    exported = {line.split()[-1] for line in names.splitlines() if line.split()[-2] in "TDBR"}
    assert exported and all(name.startswith("doppel_") for name in exported), exported
