"""The commands that run nothing."""
import json
import subprocess


def test_version(t):
    done = t.run("--version")
    assert done.returncode == 0 and done.stdout.startswith(b"doppel 0."), done


def test_help_lists_every_command_and_each_has_help(t):
    listing = t.run("help").stdout.decode()
    for command in ("run", "engines", "help"):
        assert f"  {command} " in listing, listing
        done = t.run("help", command)
        assert done.returncode == 0 and done.stdout.startswith(b"doppel " + command.encode())


def test_run_help_names_every_option(t):
    text = t.run("help", "run").stdout.decode()
    for option in ("kernel", "initrd", "append", "module", "boot", "engine", "cpu", "cpus",
                   "memory", "console", "no-reboot", "stats", "debug-exit", "name", "clock"):
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
