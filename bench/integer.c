/*
 * Integer code of several kinds, each timed by the clock of the machine it runs on.
 *
 *     integer [ROUNDS [NAME]]
 *
 * A static program that runs as it is on the host, and as a guest's first process, which powers the
 * guest off when it is done. Each round runs every workload once, or only the one of that name, and
 * prints a line for it: its name, the nanoseconds that it took and that it used a processor for,
 * and a checksum that is the same everywhere.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <time.h>
#include <unistd.h>

static uint32_t random_state;

static uint32_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state;
}

static uint32_t mix(uint32_t sum, uint32_t value)
{
    return (sum ^ value) * 16777619;
}

/* ---- sorting ---- */

static void quicksort(int *a, long low, long high)
{
    while (low < high) {
        long i = low, j = high;
        int pivot = a[low + (high - low) / 2];
        while (i <= j) {
            while (a[i] < pivot)
                i++;
            while (a[j] > pivot)
                j--;
            if (i <= j) {
                int t = a[i];
                a[i++] = a[j];
                a[j--] = t;
            }
        }
        if (j - low < high - i) {
            quicksort(a, low, j);
            low = i;
        } else {
            quicksort(a, i, high);
            high = j;
        }
    }
}

static uint32_t sort(void)
{
    enum { N = 250000 };
    static int a[N];
    uint32_t sum = 0;
    for (long i = 0; i < N; i++)
        a[i] = (int)next_random();
    quicksort(a, 0, N - 1);
    for (long i = 1; i < N; i++)
        sum = mix(sum, a[i - 1] <= a[i] ? (uint32_t)a[i] : 0);
    return sum;
}

/* ---- a hash table with open addressing ---- */

enum { TABLE_BITS = 14, TABLE_SIZE = 1 << TABLE_BITS };

struct slot {
    uint64_t key, value;
};

static struct slot *find_slot(struct slot *table, uint64_t key)
{
    uint64_t i = key * 0x9e3779b97f4a7c15 >> (64 - TABLE_BITS);
    while (table[i].key && table[i].key != key)
        i = (i + 1) % TABLE_SIZE;
    return &table[i];
}

static uint32_t hash_table(void)
{
    static struct slot table[TABLE_SIZE];
    uint32_t sum = 0;
    memset(table, 0, sizeof table);
    for (uint32_t i = 0; i < 2000000; i++) {
        uint64_t key = next_random() % (TABLE_SIZE * 2 / 3) + 1;
        struct slot *s = find_slot(table, key);
        s->key = key;
        s->value += i;
    }
    for (uint32_t i = 0; i < TABLE_SIZE; i++)
        sum = mix(sum, (uint32_t)table[i].value);
    return sum;
}

/* ---- a byte-code interpreter, on the lengths of Collatz sequences ---- */

enum code { PUSH, LOAD, STORE, ADD, MUL, HALVE, ODD, LESS, JUMP, JUMP_IF, HALT };

static uint32_t interpret(const uint8_t *code)
{
    uint32_t stack[16], variable[4] = {0}, *top = stack;
    for (;;) {
        switch ((enum code) * code++) {
        case PUSH: *++top = *code++; break;
        case LOAD: *++top = variable[*code++]; break;
        case STORE: variable[*code++] = *top--; break;
        case ADD:
            top--;
            *top += top[1];
            break;
        case MUL:
            top--;
            *top *= top[1];
            break;
        case HALVE: *top >>= 1; break;
        case ODD: *top &= 1; break;
        case LESS:
            top--;
            *top = *top < top[1];
            break;
        case JUMP: code += (int8_t)*code; break;
        case JUMP_IF: code += *top-- ? (int8_t)*code : 1; break;
        case HALT: return variable[2];
        }
    }
}

static uint32_t byte_code(void)
{
    /* for (n = 1; n < 6000; n++) for (x = n; 1 < x; steps++) x = x odd ? 3x + 1 : x / 2; a jump's
     * operand is its distance from that operand. */
    enum { N, X, STEPS };
    static const uint8_t program[] = {
        PUSH,
        1,
        STORE,
        N,
        /* 4 */ LOAD,
        N,
        STORE,
        X,
        /* 8 */ PUSH,
        1,
        LOAD,
        X,
        LESS,
        JUMP_IF,
        33 - 14,
        /* 15 */ LOAD,
        N,
        PUSH,
        1,
        ADD,
        STORE,
        N,
        /* 22 */ LOAD,
        N,
        PUSH,
        100,
        PUSH,
        60,
        MUL,
        LESS,
        JUMP_IF,
        (uint8_t)(4 - 31),
        HALT,
        /* 33 */ LOAD,
        X,
        ODD,
        JUMP_IF,
        45 - 37,
        /* 38 */ LOAD,
        X,
        HALVE,
        STORE,
        X,
        JUMP,
        55 - 44,
        /* 45 */ LOAD,
        X,
        PUSH,
        3,
        MUL,
        PUSH,
        1,
        ADD,
        STORE,
        X,
        /* 55 */ LOAD,
        STEPS,
        PUSH,
        1,
        ADD,
        STORE,
        STEPS,
        JUMP,
        (uint8_t)(8 - 63),
    };
    return interpret(program);
}

/* ---- checksums and a cryptographic hash ---- */

enum { TEXT_SIZE = 1 << 20 };

/* Something between noise and text: words from a small dictionary, repeated unevenly. */
static const uint8_t *text(void)
{
    static uint8_t bytes[TEXT_SIZE];
    char word[512][8];
    for (unsigned i = 0; i < 512; i++)
        for (unsigned k = 0; k < 8; k++)
            word[i][k] = (char)('a' + next_random() % 26);
    for (size_t at = 0; at < TEXT_SIZE; at += 8) {
        uint32_t r = next_random();
        memcpy(bytes + at, word[(r & 511) & (r >> 9 & 511)], 8);
        bytes[at + 3 + (r >> 18 & 3)] = ' ';
    }
    return bytes;
}

static uint32_t crc32(uint32_t start, const uint8_t *p, size_t n)
{
    uint32_t table[256], crc = ~start;
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (unsigned k = 0; k < 8; k++)
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320 : 0);
    }
    while (n--)
        crc = crc >> 8 ^ table[(crc ^ *p++) & 0xff];
    return ~crc;
}

static uint32_t rotate(uint32_t x, unsigned n)
{
    return x >> n | x << (32 - n);
}

/* The first 32 bits of the fractional part of the square (cube) root of a prime (FIPS
 * 180-4, 4.2.2), found by bisection in integers: root holds 32 fractional bits. */
static uint32_t root_fraction(uint32_t prime, unsigned degree)
{
    uint64_t low = 0, high = UINT64_C(32) << 32;
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        unsigned __int128 power = (unsigned __int128)middle * middle >> (degree == 3 ? 32 : 0);
        if (degree == 3)
            power *= middle;
        if (power < (unsigned __int128)prime << 64)
            low = middle;
        else
            high = middle;
    }
    return (uint32_t)low;
}

struct sha256 {
    uint32_t k[64], h[8];
};

static void sha256_init(struct sha256 *s)
{
    unsigned found = 0;
    for (uint32_t n = 2; found < 64; n++) {
        uint32_t d = 2;
        while (d * d <= n && n % d)
            d++;
        if (d * d <= n)
            continue;
        if (found < 8)
            s->h[found] = root_fraction(n, 2);
        s->k[found++] = root_fraction(n, 3);
    }
}

static void sha256_block(struct sha256 *s, const uint8_t *p)
{
    uint32_t w[64], v[8];
    for (unsigned i = 0; i < 16; i++)
        w[i] = (uint32_t)p[i * 4] << 24 | (uint32_t)p[i * 4 + 1] << 16 |
               (uint32_t)p[i * 4 + 2] << 8 | p[i * 4 + 3];
    for (unsigned i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) + w[i - 7] +
               (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
    }
    memcpy(v, s->h, sizeof v);
    for (unsigned i = 0; i < 64; i++) {
        uint32_t e = v[4], a = v[0];
        uint32_t t1 = v[7] + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) +
                      ((e & v[5]) ^ (~e & v[6])) + s->k[i] + w[i];
        uint32_t t2 = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) +
                      ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
        memmove(v + 1, v, 7 * sizeof v[0]);
        v[4] += t1;
        v[0] = t1 + t2;
    }
    for (unsigned i = 0; i < 8; i++)
        s->h[i] += v[i];
}

static uint32_t checksums(void)
{
    const uint8_t *bytes = text();
    uint32_t sum = 0;
    for (unsigned i = 0; i < 5; i++)
        sum = crc32(sum, bytes, TEXT_SIZE);
    return sum;
}

static uint32_t sha(void)
{
    const uint8_t *bytes = text();
    struct sha256 s;
    sha256_init(&s);
    for (size_t at = 0; at < TEXT_SIZE; at += 64)
        sha256_block(&s, bytes + at);
    return s.h[0] ^ s.h[7];
}

/* ---- LZ77 with a hash of three bytes, and back ---- */

enum { LZ_BITS = 13, LZ_MAX = 258, LZ_MIN = 4 };

static uint32_t lz_hash(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v * 2654435761u >> (32 - LZ_BITS);
}

/* Tokens: 0 and a byte, or a length and a distance of 16 bits. */
static size_t lz_pack(const uint8_t *in, size_t n, uint8_t *out)
{
    static uint32_t last[1 << LZ_BITS];
    size_t at = 0, to = 0;
    memset(last, 0, sizeof last);
    while (at < n) {
        size_t length = 0, from = 0;
        if (at + LZ_MIN <= n) {
            uint32_t h = lz_hash(in + at);
            from = last[h];
            last[h] = (uint32_t)at;
            if (from < at && at - from < 0x10000)
                while (length < 255 && at + length < n && in[from + length] == in[at + length])
                    length++;
        }
        if (length < LZ_MIN) {
            out[to++] = 0;
            out[to++] = in[at++];
        } else {
            out[to++] = (uint8_t)length;
            out[to++] = (uint8_t)(at - from);
            out[to++] = (uint8_t)((at - from) >> 8);
            at += length;
        }
    }
    return to;
}

static size_t lz_unpack(const uint8_t *in, size_t n, uint8_t *out)
{
    size_t to = 0;
    for (size_t at = 0; at < n;) {
        unsigned length = in[at++];
        if (!length) {
            out[to++] = in[at++];
            continue;
        }
        size_t distance = in[at] | (size_t)in[at + 1] << 8;
        at += 2;
        for (unsigned i = 0; i < length; i++, to++)
            out[to] = out[to - distance];
    }
    return to;
}

static uint32_t compression(void)
{
    static uint8_t packed[TEXT_SIZE * 2], back[TEXT_SIZE + 256];
    const uint8_t *bytes = text();
    size_t n = lz_pack(bytes, TEXT_SIZE, packed);
    size_t m = lz_unpack(packed, n, back);
    return m == TEXT_SIZE && memcmp(back, bytes, m) == 0 ? (uint32_t)n : 0;
}

/* ---- the sieve of Eratosthenes ---- */

static uint32_t sieve(void)
{
    enum { N = 4000000 };
    static uint8_t composite[N];
    uint32_t count = 0;
    memset(composite, 0, N);
    for (uint32_t i = 2; i < N; i++) {
        if (composite[i])
            continue;
        count++;
        for (uint64_t k = (uint64_t)i * i; k < N; k += i)
            composite[k] = 1;
    }
    return count;
}

/* ---- pointers in random order, through more pages than first-level TLBs hold; the lines that are
 * touched fit a second-level cache, for beyond it neighbours on the host decide ---- */

struct node {
    struct node *next;
    uint64_t value;
    uint8_t rest[560]; /* an odd number of cache lines in all */
};

static uint32_t pointers(void)
{
    enum { N = 1 << 13, STEPS = 4000000 };
    static struct node nodes[N];
    static uint32_t order[N];
    for (uint32_t i = 0; i < N; i++)
        order[i] = i;
    for (uint32_t i = N - 1; i > 0; i--) {
        uint32_t k = next_random() % (i + 1), t = order[i];
        order[i] = order[k];
        order[k] = t;
    }
    for (uint32_t i = 0; i < N; i++) {
        nodes[order[i]].next = &nodes[order[(i + 1) % N]];
        nodes[order[i]].value = i;
    }
    uint64_t sum = 0;
    const struct node *p = nodes;
    for (uint32_t i = 0; i < STEPS; i++, p = p->next)
        sum += p->value;
    return (uint32_t)sum;
}

/* ---- calls and returns ---- */

__attribute__((noinline)) static int takeuchi(int x, int y, int z)
{
    if (y >= x)
        return z;
    return takeuchi(takeuchi(x - 1, y, z), takeuchi(y - 1, z, x), takeuchi(z - 1, x, y));
}

static uint32_t recursion(void)
{
    uint32_t sum = 0;
    for (int i = 0; i < 40; i++)
        sum = mix(sum, (uint32_t)takeuchi(18, 12, 6 - i % 2));
    return sum;
}

/* ---- running them ---- */

static const struct workload {
    const char *name;
    uint32_t (*run)(void);
} workloads[] = {
    {"quicksort", sort},      {"hash-table", hash_table},
    {"byte-code", byte_code}, {"crc32", checksums},
    {"sha256", sha},          {"compression", compression},
    {"sieve", sieve},         {"pointers", pointers},
    {"recursion", recursion},
};

static uint64_t now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void run_one(const struct workload *w)
{
    random_state = 2463534242;
    uint64_t start = now(CLOCK_MONOTONIC), start_used = now(CLOCK_PROCESS_CPUTIME_ID);
    uint32_t sum = w->run();
    uint64_t used = now(CLOCK_PROCESS_CPUTIME_ID) - start_used;
    uint64_t ns = now(CLOCK_MONOTONIC) - start;
    printf("bench %s %" PRIu64 " %" PRIu64 " %08" PRIx32 "\n", w->name, ns, used, sum);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    unsigned rounds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 1;
    printf("bench begin\n");
    fflush(stdout);
    for (unsigned r = 0; r < rounds; r++)
        for (size_t i = 0; i < sizeof workloads / sizeof workloads[0]; i++)
            if (argc <= 2 || strcmp(argv[2], workloads[i].name) == 0)
                run_one(&workloads[i]);
    if (getpid() == 1)
        reboot(RB_POWER_OFF);
    return 0;
}
