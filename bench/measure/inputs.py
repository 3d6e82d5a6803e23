"""What the workloads work on, made from nothing but a seed, and the results they must come to. What
can be known without the program that is measured is worked out here; the rest is computed by the same
program on the host's own processor."""
import hashlib
import itertools
import random
import subprocess
import sys

TEXT_BYTES = 800_000     # times the scale
FUNCTIONS = 12           # times the scale
SEED = 20261122


def text(scale):
    """Lines of words, common words common: what compressors and sort get."""
    rng = random.Random(SEED)
    syllables = [a + b for a in "bcdfghklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er")]
    words = ["".join(rng.choice(syllables) for _ in range(rng.randint(1, 4))) for _ in range(20000)]
    weights = list(itertools.accumulate(1 / (n + 4) for n in range(len(words))))
    lines, size = [], 0
    while size < TEXT_BYTES * scale:
        line = " ".join(rng.choices(words, cum_weights=weights, k=rng.randint(4, 14)))
        line = f"{rng.randrange(1 << 32):08x} {line}"
        lines.append(line)
        size += len(line) + 1
    return lines


LARGE_FUNCTION = """
unsigned f{n}(unsigned x, struct item *items, int count)
{{
    unsigned table[{size}], sum = x ^ {a};
    double scaled = {b}.5;
    for (unsigned i = 0; i < {size}; i++)
        table[i] = (x + i * {c}) % {b};
    for (int i = 0; i < count; i++) {{
        struct item *it = &items[(i * {b} + {c}) % count];
        switch ((it->key + i) % 5) {{
        case 0: sum += table[it->key % {size}]; break;
        case 1: it->weight += (int)(sum % {a}); scaled += it->weight * 0.25; break;
        case 2: sum = (sum << {turn}) | (sum >> {rest}); break;
        case 3: if (it->next) it->next->key ^= sum; else it->key++; break;
        default: it->value = it->value * 0.5 + scaled; sum -= (unsigned)it->value & {a}; break;
        }}
    }}
    return sum {op} (unsigned)(scaled * 4);
}}
"""

SMALL_FUNCTION = """
unsigned f{n}(unsigned x, struct item *items, int count)
{{
    struct item *it = &items[x % (unsigned)count];
    unsigned sum = x * {b}u + it->key;
    while (it->key % {turn}0 && sum > {a})
        sum = sum / 3 {op} it->key--;
    if (it->next && it->weight < {c})
        it->next->weight += it->weight & {a};
    return (sum << {turn}) ^ (sum >> {turn});
}}
"""


def c_program(scale):
    """Functions of loops, tables, branches and doubles, and a main that calls them all."""
    rng = random.Random(SEED)
    parts = ["int printf(const char *, ...);\n"
             "struct item { unsigned key; int weight; double value; struct item *next; };\n"]
    count = FUNCTIONS * scale
    for n in range(count):
        a, b, c = (rng.randrange(1, 1000) for _ in range(3))
        shape = LARGE_FUNCTION if n % 4 == 0 else SMALL_FUNCTION
        parts.append(shape.format(n=n, a=a, b=b, c=c, size=16 + a % 16, turn=1 + a % 7,
                                  rest=31 - a % 7, op="+^-"[n % 3]))
    calls = "\n".join(f"    sum = f{n}(sum + {n}, items, 16) {'^+'[n % 2]} (sum >> 3);"
                      for n in range(count))
    parts.append(f"""
int main(void)
{{
    static struct item items[16];
    unsigned sum = 1;
    for (int i = 0; i < 16; i++)
        items[i] = (struct item){{(unsigned)i * 77u, i, i * 1.5, i % 3 ? &items[15 - i] : 0}};
{calls}
    printf("%u\\n", sum);
    return 0;
}}
""")
    return "".join(parts)


def python_program(scale):
    return f"""
bodies = [[i * 1.25, i * 0.5 - 3, 0.01 * i, 1.0 + i] for i in range(8)]
seen = {{}}
for step in range({600 * scale}):
    for a in bodies:
        for b in bodies:
            if a is not b:
                d = (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + 0.5
                a[2] += b[3] * (b[0] - a[0]) / (d * 1000)
    for a in bodies:
        a[0] += a[2] * 0.01
    key = "k%d" % (step % 997)
    seen[key] = seen.get(key, 0) + step
print("%.6f" % sum(b[0] for b in bodies), sum(seen.values()), len(seen))
print(sum(map(len, sorted(str(i * i % 10007) for i in range({4000 * scale})))))
"""


def lua_program(scale):
    return f"""
local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end
local total, words = 0, {{}}
for i = 1, {scale} do total = total + fib(22) end
for i = 1, {scale} * 6000 do words[i] = string.format("%d:%x", i % 101, i) end
table.sort(words)
local length = 0
for i, w in ipairs(words) do length = (length * 31 + #w * i + w:byte(-1)) % 1000000007 end
print(total, length)
"""


def fibonacci(n):
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


def lua_result(scale):
    words = sorted(f"{i % 101}:{i:x}" for i in range(1, scale * 6000 + 1))
    length = 0
    for i, w in enumerate(words, 1):
        length = (length * 31 + len(w) * i + ord(w[-1])) % 1000000007
    return f"{scale * fibonacci(22)}\t{length}\n"


def sql_program(scale):
    rows = 12000 * scale
    return rows, f"""
PRAGMA journal_mode = DELETE;
CREATE TABLE t (id INTEGER PRIMARY KEY, k INTEGER, s TEXT);
BEGIN;
INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
    SELECT i, i * 7919 % 10007, printf('name %d', i * 31 % 997) FROM n;
COMMIT;
CREATE INDEX t_k ON t (k);
CREATE INDEX t_s ON t (s);
SELECT sum(k), count(DISTINCT s) FROM t;
SELECT count(*), sum(id) FROM t WHERE k BETWEEN 100 AND 2000;
SELECT sum(length(s)) FROM t WHERE s LIKE 'name 1%';
UPDATE t SET k = k + 1 WHERE id % 3 = 0;
SELECT count(*) FROM t a JOIN t b ON a.k = b.id WHERE b.id % 7 = 0;
"""


def sql_result(rows):
    table = [(i, i * 7919 % 10007, f"name {i * 31 % 997}") for i in range(1, rows + 1)]
    between = [i for i, k, _ in table if 100 <= k <= 2000]
    updated = [k + 1 if i % 3 == 0 else k for i, k, _ in table]
    return (f"delete\n{sum(k for _, k, _ in table)}|{len({s for _, _, s in table})}\n"
            f"{len(between)}|{sum(between)}\n"
            f"{sum(len(s) for _, _, s in table if s.startswith('name 1'))}\n"
            f"{sum(1 for k in updated if 1 <= k <= rows and k % 7 == 0)}\n")


def fault_sum(count):
    """faults.c: the bytes that it wrote."""
    return sum((i + p) & 0xff for i in range(count) for p in range(1024))


def run(*command):
    return subprocess.run(list(map(str, command)), capture_output=True, text=True,
                          check=True).stdout


def host_result(source, folder):
    """What a C program prints on the host, compiled there."""
    out = folder / "program"
    run("gcc", "-O1", "-o", out, source)
    result = run(out)
    out.unlink()
    return result


class Inputs:
    """Two folders: what the guest finds in /bench/data, and in /bench/expected."""

    def __init__(self, folder, scale, openssl, float_program):
        self.data, self.expected = folder / "data", folder / "expected"
        self.data.mkdir(parents=True, exist_ok=True)
        self.expected.mkdir(exist_ok=True)
        self._make_text(scale)
        self._make_programs(scale)
        self._make_keys(openssl)
        self._expect("float", run(float_program, scale * 4))
        self._expect("fork-static", "")
        self._expect("fork-dynamic", f"{20 * scale}\n")
        self._expect("pipe", f"{scale * 200 * 65536}\n")
        self._expect("page-faults", f"{fault_sum(scale * 4)}\n")

    def _expect(self, name, result):
        (self.expected / name).write_text(result, encoding="ascii")

    def _make_text(self, scale):
        lines = text(scale)
        whole = "".join(f"{line}\n" for line in lines).encode()
        (self.data / "text").write_bytes(whole)
        digest = hashlib.sha256(whole).hexdigest()
        self._expect("sha256sum", f"{digest}\n")
        self._expect("zstd", f"{digest}  -\n")
        part = whole[:len(whole) // 8]
        (self.data / "part").write_bytes(part)
        self._expect("7zr", f"{hashlib.sha256(part).hexdigest()}  -\n")
        # By the second field, with the blank before it, to the end; then by the whole line.
        in_order = "".join(f"{line}\n" for line in sorted(lines, key=lambda l: (l[8:], l))).encode()
        self._expect("sort", f"{hashlib.sha256(in_order).hexdigest()}  -\n")
        self._expect("system-calls",
                     f"{hashlib.sha256(whole[:scale * 20000]).hexdigest()}  -\n")

    def _make_programs(self, scale):
        program = self.data / "program.c"
        program.write_text(c_program(scale), encoding="ascii")
        self._expect("compile", host_result(program, self.data))
        program = self.data / "program.py"
        program.write_text(python_program(scale), encoding="ascii")
        self._expect("python", run(sys.executable, "-I", program))
        (self.data / "program.lua").write_text(lua_program(scale), encoding="ascii")
        self._expect("lua", lua_result(scale))
        rows, sql = sql_program(scale)
        (self.data / "program.sql").write_text(sql, encoding="ascii")
        self._expect("sqlite", sql_result(rows))

    def _make_keys(self, openssl):
        (self.data / "message").write_bytes(b"what is signed\n" * 100)
        for name, options in (("rsa-4096", ("RSA", "-pkeyopt", "rsa_keygen_bits:4096")),
                              ("ec-p384", ("EC", "-pkeyopt", "ec_paramgen_curve:P-384"))):
            key = self.data / f"{name}.key"
            if not key.exists():
                run(*openssl, "genpkey", "-out", key, "-algorithm", *options)
            run(*openssl, "pkey", "-in", key, "-pubout", "-out", self.data / f"{name}.pub")
        self._expect("openssl", "Key is valid\nVerified OK\n")
