#!/usr/bin/env python3
"""Checks, in TAP, that what runs while the guest's vector registers are in the host's calls nothing
of the C library that uses them: memory and string functions, whoever put the call there.

usage: general_registers.py OBJDUMP LIBRARY...
"""

import re
import subprocess
import sys

# Functions that only run with the guest's registers put away: making and recycling things,
# translating, looking at a model's name, `emulate`'s own loop.
ALLOWED = {
    "x86_model_find", "vcpu_create", "cache_init", "code_create", "code_flush", "spaces_create",
    "binary_learn_forms", "compare", "assign_stand_ins", "emit_again", "emit_bytes", "rewrite_copy",
    "copy_with_loaded_operand", "usable", "vm_create", "how_named",
    "x86_model_has", "fetch_bytes", "bounce_create", "map_all",
    "cage_create", "restrict_calls", "binary_translate", "write_piece", "perf_map_add", "perf_map_open",
}
LIBRARY = re.compile(r"R_X86_64\S*\s+((?:mem|str|stp|wcs)\w+|\w*printf\w*)\b")


def calls(objdump, library):
    """(function, what it calls) for each call of such a function in the library's objects."""
    done = subprocess.run([objdump, "-dr", library], capture_output=True, text=True, check=True)
    function = None
    for line in done.stdout.splitlines():
        start = re.match(r"[0-9a-f]+ <(.*)>:", line)
        if start:
            function = re.sub(r"\.(part|isra|constprop|cold).*", "", start[1])
        found = LIBRARY.search(line)
        if found:
            yield function, found[1]


def main():
    objdump, libraries = sys.argv[1], sys.argv[2:]
    failed = 0
    print("1..%d" % len(libraries))
    for number, library in enumerate(libraries, 1):
        bad = sorted({"%s() calls %s" % c for c in calls(objdump, library) if c[0] not in ALLOWED})
        failed += bool(bad)
        print("%sok %d %s" % ("not " if bad else "", number, library.rsplit("/", 1)[-1]))
        for line in bad:
            print("#", line)
    return failed != 0


sys.exit(main())
