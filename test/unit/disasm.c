/*
 * Disassembly says how long an instruction is, names it, and never writes past its buffer.
 */
#include "test.h"

#include "monitor/disasm.h"
#include "x86/cpu.h"

TEST(an_instruction_is_named_and_measured)
{
    static const uint8_t add[] = {0x48, 0x01, 0xd8, 0x90};
    char text[64];
    CHECK_EQ(disasm(add, sizeof add, X86_CODE64, 0x1000, text, sizeof text), 3);
    CHECK(strncmp(text, "add", 3) == 0);
    CHECK_EQ(disasm(add, sizeof add, X86_CODE32, 0x1000, text, sizeof text), 1);
    CHECK(strncmp(text, "dec", 3) == 0);
}

TEST(what_is_no_instruction_is_bad)
{
    static const uint8_t push_es[] = {0x06};
    char text[64];
    CHECK_EQ(disasm(push_es, sizeof push_es, X86_CODE64, 0, text, sizeof text), 0);
    CHECK(strcmp(text, "(bad)") == 0);
}

TEST(a_small_buffer_is_cut_not_overrun)
{
    static const uint8_t imul[] = {0x69, 0x84, 0x88, 1, 2, 3, 4, 5, 6, 7, 8};
    char text[8];
    memset(text, '#', sizeof text);
    CHECK_EQ(disasm(imul, sizeof imul, X86_CODE64, 0, text, 5), 11);
    CHECK(memchr(text, 0, 5) != NULL);
    CHECK(text[5] == '#' && text[6] == '#' && text[7] == '#');
}

TESTS(T(an_instruction_is_named_and_measured), T(what_is_no_instruction_is_bad),
      T(a_small_buffer_is_cut_not_overrun))
