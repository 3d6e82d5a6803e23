#!/usr/bin/env python3
"""Runs guests that check themselves (guest/) and says in TAP what each of their tests did.

usage: guests.py DOPPEL ENGINE[:CPU] [OPTION...] GUEST.elf...
"""

import json
import re
import subprocess
import sys

PASSED = 0x10 << 1 | 1  # what a guest that passed makes the monitor's exit status
TIMEOUT = 120
# Guests that a /dev/kvm that works in software can't run right, as it executes user code unseen.
BEYOND_SOFTWARE_KVM = {"direct", "told"}

# What guests need beside what all get.
OPTIONS = {"virtio": ["--rng"]}


def entry_of(doppel, engine):
    """What doppel says of the engine on this host."""
    told = subprocess.run([doppel, "engines", "--json"], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, check=True, timeout=TIMEOUT)
    for entry in json.loads(told.stdout)["engines"]:
        if entry["name"] == engine:
            return entry
    return {"usable": False, "advisable": False, "why": "there is no such engine"}


def run(doppel, engine, cpu, options, guest):
    """The guest's output lines, and why it counts as failed as a whole (or None)."""
    own = OPTIONS.get(re.sub(r".*/|\.elf$", "", guest), [])
    command = [doppel, "run", "--engine", engine, "--kernel", guest, "--memory", "64M",
               "--debug-exit", "--console", "stdio", *(["--cpu", cpu] if cpu else []), *own, *options]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=TIMEOUT)
        output, why = done.stdout, None
        if done.returncode != PASSED:
            why = "exit status %d" % done.returncode
    except subprocess.TimeoutExpired as e:
        output, why = e.stdout or b"", "no end after %d s" % TIMEOUT
    return output.decode("latin-1").splitlines(), why


def report(count, bad, text, skip):
    """One line of TAP; whether it counts as failed."""
    print("%sok %d %s%s" % ("not " if bad and not skip else "", count, text,
                            " # SKIP " + skip if skip else ""))
    return bad and not skip


def main():
    doppel = sys.argv[1]
    guests = [argument for argument in sys.argv[3:] if argument.endswith(".elf")]
    options = [argument for argument in sys.argv[3:] if not argument.endswith(".elf")]
    engine, _, cpu = sys.argv[2].partition(":")
    entry = entry_of(doppel, engine)
    if not entry["usable"]:
        print("1..1\nok 1 guests # SKIP engine %s: %s" % (engine, entry["why"]))
        return 0
    count = failed = 0
    for guest in guests:
        name = re.sub(r".*/|\.elf$", "", guest)
        unseen = engine == "hardware" and not entry["advisable"] and name in BEYOND_SOFTWARE_KVM
        excuse = "this /dev/kvm works in software, and runs user code unseen" if unseen else None
        lines, why = run(doppel, engine, cpu, options, guest)
        for line in lines:
            verdict = re.match(r"(ok  |FAIL|skip) (%s .*)" % name, line)
            if not verdict:
                print("#", line)
                continue
            count += 1
            bad = verdict[1] == "FAIL"
            skip = "the guest can't tell" if verdict[1] == "skip" else excuse if bad else None
            failed += report(count, bad, verdict[2], skip)
        count += 1
        failed += report(count, why is not None,
                         "%s ends well%s" % (name, " (%s)" % why if why else ""),
                         excuse if why else None)
        sys.stdout.flush()
    print("1..%d" % count)
    return failed != 0


sys.exit(main())
