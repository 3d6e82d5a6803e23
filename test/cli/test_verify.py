"""doppel verify: two engines on one guest, and what it says of them."""
import re

from harness.case import expect_refusal


def verify(t, *more, guest="interrupt", engine="emulate"):
    return t.run("verify", "--engine", engine, "--against", "emulate", "--kernel",
                 t.build / f"guest/{guest}.elf", "--memory", "64M", "--debug-exit", *more)


def refused(t, *texts, args):
    expect_refusal(t.run("verify", *args), 2, *texts)


def test_one_engine_twice_is_alike(t):
    for guest in ("interrupt", "smc", "paging32"):
        done = verify(t, guest=guest)
        text = done.stdout.decode()
        assert done.returncode == 0 and done.stderr == b"", done
        assert int(re.search(r"(\d+) instructions compared", text)[1]) > 10000, text
        assert text.endswith("No difference.\n"), text


def test_the_guest_is_heard(t):
    done = verify(t, "--console", "stdio")
    assert done.returncode == 0 and b"ok   interrupt " in done.stdout, done


def test_a_planted_register_is_found(t):
    done = verify(t, "--plant", "20000:gpr3")
    text = done.stdout.decode()
    assert done.returncode == 1 and done.stderr == b"", done
    assert "The engines differ behind instruction 20000:" in text, text
    values = re.search(r"^  rbx +0x([0-9a-f]{16}) +0x([0-9a-f]{16})$", text, re.M)
    assert values and int(values[1], 16) ^ int(values[2], 16) == 1, text
    # The instruction: its address, its text, its bytes.
    assert re.search(r"^  [0-9a-f]{16}  [a-z]\w* .*  [0-9a-f]{2}( [0-9a-f]{2})*$", text, re.M), text


def test_a_planted_byte_is_found(t):
    done = verify(t, "--plant", "20001:0x3000001", "--checkpoint", "1000")
    assert done.returncode == 1, done
    assert b"differ behind instruction 20001:" in done.stdout, done
    assert b"Memory, 1 bytes; the first at 0x3000001:\n  00 " in done.stdout, done


def test_a_planted_flag_is_found_behind_every_instruction(t):
    done = verify(t, "--plant", "20002:rflags", "--step", "1")
    assert done.returncode == 1 and b"differ behind instruction 20002:" in done.stdout, done


def test_each_block_of_translated_code(t):
    t.needs_engine("binary")
    done = verify(t, guest="long", engine="binary")
    text = done.stdout.decode()
    assert done.returncode == 0 and text.endswith("No difference.\n"), done
    counts = re.search(r"(\d+) instructions compared\n +(\d+) times all registers", text)
    # As often as there are blocks, of a few instructions each.
    assert int(counts[1]) / 50 < int(counts[2]) < int(counts[1]), text


def test_a_bug_planted_beside_translated_code_is_found(t):
    t.needs_engine("binary")
    for place, seen in (("gpr3", rb"\n  rbx  "), ("rflags", rb"\n  rflags  "), ("vec3", rb"\n  vec\[3\]"),
                        ("0x3000001", rb"\nMemory, 1 bytes; the first at 0x3000001:\n")):
        done = verify(t, "--plant", f"20001:{place}", guest="long", engine="binary")
        assert done.returncode == 1, done
        assert b"The engines differ behind instruction 20001:" in done.stdout, done
        assert re.search(seen, done.stdout), done


def test_what_can_not_be_taken(t):
    engines = ["--engine", "emulate", "--against", "emulate", "--kernel", "x"]
    refused(t, "--against", args=["--engine", "emulate", "--kernel", "x"])
    refused(t, "--kernel", args=engines[:4])
    refused(t, "warp", args=["--against", "warp"])
    refused(t, "--rng", "second engine", args=engines + ["--rng"])
    refused(t, "--frobnicate", args=engines + ["--frobnicate"])
    refused(t, "stray", "doppel help verify", args=engines + ["stray"])
    refused(t, "--step", args=engines + ["--step", "0"])
    refused(t, "--step", "missing", args=engines + ["--step"])
    for plant in ("5", "5:", "0:gpr1", "x:gpr1", "5:gpr16", "5:gpr", "5:warp", "5:0x10z"):
        refused(t, "--plant", args=engines + ["--plant", plant])


def test_one_processor_alone(t):
    expect_refusal(verify(t, "--cpus", "2"), 2, "--cpus 1")
