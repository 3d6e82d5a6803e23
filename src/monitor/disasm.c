/*
 * Disassembly: libZydis' text, our decoder's lengths.
 */
#include "monitor/disasm.h"

#include <stdio.h>
#ifdef DOPPEL_HAVE_ZYDIS
#include <Zydis/Zydis.h>
#endif

#include "x86/cpu.h"
#include "x86/forms.h"

#ifdef DOPPEL_HAVE_ZYDIS
static bool format(const uint8_t *bytes, size_t n, unsigned code, uint64_t rip, char *text,
                   size_t size)
{
    static const struct {
        ZydisMachineMode mode;
        ZydisStackWidth width;
    } modes[] = {
        [X86_CODE16] = {ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16},
        [X86_CODE32] = {ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32},
        [X86_CODE64] = {ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64},
    };
    ZydisDecoder decoder;
    ZydisFormatter formatter;
    ZydisDecodedInstruction insn;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    return ZYAN_SUCCESS(ZydisDecoderInit(&decoder, modes[code].mode, modes[code].width)) &&
           ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes, n, &insn, operands)) &&
           ZYAN_SUCCESS(ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL)) &&
           ZYAN_SUCCESS(ZydisFormatterFormatInstruction(
               &formatter, &insn, operands, insn.operand_count_visible, text, size, rip, NULL));
}
#else
static bool format(const uint8_t *bytes, size_t n, unsigned code, uint64_t rip, char *text,
                   size_t size)
{
    (void)bytes, (void)n, (void)code, (void)rip, (void)text, (void)size;
    return false;
}
#endif

unsigned disasm(const uint8_t *bytes, size_t n, unsigned code, uint64_t rip, char *text,
                size_t size)
{
    struct x86_insn insn;
    if (x86_decode(bytes, n, code, &insn) != X86_DECODED) {
        snprintf(text, size, "(bad)");
        return 0;
    }
    if (!format(bytes, insn.len, code, rip, text, size))
        snprintf(text, size, "%s%s %s", x86_form(&insn)->mnemonic,
                 x86_form(&insn)->flags & X86_FORM_CC ? "cc" : "", x86_form(&insn)->operands);
    return insn.len;
}
