/*
 * How the engine `binary` runs instruction forms, and what it knows of the registers they change.
 */
#include "test.h"

#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "engine/binary/translator.h"
#include "x86/cpuid.h"

enum {
    ALL = KEY_X87 | KEY_SSE | KEY_AVX | KEY_PKU | KEY_AVX512,
    SOME = 1 << HOST_RAX | 1 << HOST_RCX | 1 << HOST_RDX
};

static const struct {
    const char *bytes;
    size_t n;
    enum how kernel, user, bare; /* with everything enabled; a user's with nothing */
    uint8_t uses, implied_writes;
    int8_t adds_imm, adds;
} rows[] = {
#define ROW(bytes, ...)                                                                            \
    {                                                                                              \
        bytes, sizeof(bytes) - 1, __VA_ARGS__                                                      \
    }
    ROW("\x48\x01\xd8", HOW_COPY, HOW_COPY, HOW_COPY, USES_NAMED, 0), /* add rax, rbx */
    ROW("\x48\x83\xc0\x05", HOW_COPY, HOW_COPY, HOW_COPY, USES_NAMED, 0, 1),
    ROW("\x48\x83\xe8\x05", HOW_COPY, HOW_COPY, HOW_COPY, USES_NAMED, 0, -1),
    ROW("\x48\xff\xc0", HOW_COPY, HOW_COPY, HOW_COPY, USES_NAMED, 0, 0, 1),
    ROW("\x48\xff\xc8", HOW_COPY, HOW_COPY, HOW_COPY, USES_NAMED, 0, 0, -1),
    ROW("\x48\x31\xc0", HOW_COPY, HOW_COPY, HOW_COPY, USES_NAMED, 0), /* xor rax, rax */
    ROW("\x48\x39\xd8", HOW_COPY, HOW_COPY, HOW_COPY, USES_FIRST_AS_SOURCE | USES_NAMED, 0),
    ROW("\x48\x89\xd8", HOW_COPY, HOW_COPY, HOW_COPY, USES_FIRST_AS_RESULT | USES_NAMED, 0),
    ROW("\x48\x87\xd8", HOW_COPY, HOW_COPY, HOW_COPY, USES_TWO_RESULTS, SOME),     /* xchg */
    ROW("\x48\xf7\xe3", HOW_COPY, HOW_COPY, HOW_COPY, USES_FIRST_AS_SOURCE, SOME), /* mul rbx */
    ROW("\x48\x0f\x44\xc3", HOW_COPY, HOW_COPY, HOW_COPY, 0, 0),                   /* cmove */
    ROW("\xc4\xe2\xe3\xf6\xc1", HOW_COPY, HOW_COPY, HOW_COPY,
        USES_FIRST_AS_RESULT | USES_TWO_RESULTS, 1 << HOST_RCX),                       /* mulx */
    ROW("\x48\x0f\xa3\xd8", HOW_COPY, HOW_COPY, HOW_COPY, USES_FIRST_AS_SOURCE, SOME), /* bt */
    ROW("\x48\x0f\xab\x18", HOW_BIT_STRING, HOW_BIT_STRING, HOW_BIT_STRING, 0, SOME),
    ROW("\x48\x0f\xba\x28\x01", HOW_COPY, HOW_COPY, HOW_COPY, 0, SOME), /* bts [rax], 1 */
    ROW("\x66\x0f\x3a\x61\xc1\x00", HOW_COPY, HOW_COPY, HOW_EMULATE, 0, 1 << HOST_RCX),
    ROW("\xd8\xc1", HOW_COPY, HOW_COPY, HOW_EMULATE, 0, SOME),                    /* fadd */
    ROW("\xd8\x00", HOW_COPY, HOW_COPY, HOW_EMULATE, USES_FIRST_AS_SOURCE, SOME), /* fadd [rax] */
    ROW("\xd9\x18", HOW_COPY, HOW_COPY, HOW_EMULATE, USES_FIRST_AS_RESULT, SOME), /* fstp [rax] */
    ROW("\xdf\x08", HOW_COPY, HOW_COPY, HOW_EMULATE, 0, 1 << HOST_RCX),           /* fisttp [rax] */
    ROW("\xff\x10", HOW_CALL_RM, HOW_CALL_RM, HOW_CALL_RM, USES_FIRST_AS_SOURCE, SOME),
    ROW("\xff\x20", HOW_JMP_RM, HOW_JMP_RM, HOW_JMP_RM, USES_FIRST_AS_SOURCE, SOME),
    ROW("\xfa", HOW_CLI, HOW_EMULATE, HOW_EMULATE, 0, SOME),
    ROW("\x0f\x01\xcb", HOW_STAC, HOW_EMULATE, HOW_EMULATE, 0, 1 << HOST_RCX),
    ROW("\x0f\x01\xca", HOW_CLAC, HOW_EMULATE, HOW_EMULATE, 0, 1 << HOST_RCX),
    ROW("\x0f\x05", HOW_EMULATE, HOW_SYSCALL, HOW_SYSCALL, 0, SOME),
    ROW("\x0f\x01\xee", HOW_RDPKRU, HOW_RDPKRU, HOW_EMULATE, 0, 1 << HOST_RCX),
    ROW("\xf4", HOW_EMULATE, HOW_EMULATE, HOW_EMULATE, 0, SOME), /* hlt */
    ROW("\x0f\xa2", HOW_CPUID, HOW_CPUID, HOW_CPUID, 0, SOME),
    ROW("\x0f\x22\xd8", HOW_TO_CR, HOW_EMULATE, HOW_EMULATE, USES_FIRST_AS_RESULT | USES_NAMED, 0),
    ROW("\x0f\x01\x38", HOW_INVLPG, HOW_EMULATE, HOW_EMULATE, 0, SOME),
    ROW("\x0f\x32", HOW_RDMSR, HOW_EMULATE, HOW_EMULATE, 0, SOME),
    ROW("\x0f\x30", HOW_WRMSR, HOW_EMULATE, HOW_EMULATE, 0, SOME),
    ROW("\x0f\x0b", HOW_EMULATE, HOW_EMULATE, HOW_EMULATE, 0, SOME), /* ud2 */
#undef ROW
};

TEST(forms_are_run_as_the_mode_allows)
{
    static struct binary_vm vm;
    static struct x86_model model;
    vm.forms = binary_learn_forms(&model);
    CHECK(vm.forms);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint8_t bytes[X86_INSN_MAX] = {0};
        struct x86_insn insn;
        memcpy(bytes, rows[i].bytes, rows[i].n);
        CHECK_EQ(x86_decode(bytes, sizeof bytes, X86_CODE64, &insn), X86_DECODED);
        const struct form_facts *f = &vm.forms[insn.form];
        CHECK_EQ(binary_how(&vm, &insn, ALL), rows[i].kernel);
        CHECK_EQ(binary_how(&vm, &insn, ALL | KEY_USER), rows[i].user);
        CHECK_EQ(binary_how(&vm, &insn, KEY_USER), rows[i].bare);
        CHECK_EQ(f->uses, rows[i].uses);
        CHECK_EQ(f->implied_writes, rows[i].implied_writes);
        CHECK_EQ(f->adds_imm, rows[i].adds_imm);
        CHECK_EQ(f->adds, rows[i].adds);
    }
    free(vm.forms);
}

TESTS(T(forms_are_run_as_the_mode_allows))
