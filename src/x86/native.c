#include "x86/native.h"

#include "base/bits.h"
#include "x86/state.h"

static bool begins_with(const char *text, const char *with)
{
    while (*with && *text == *with) {
        text++;
        with++;
    }
    return !*with;
}

/* A VEX-encoded instruction clears its destination up to the last bit that the processor has; the
 * semantics know of 256. Those that name registers which no field does clear it themselves. */
static bool clears_zmm(const struct x86_insn *insn)
{
    const struct x86_form *form = x86_form(insn);
    bool vector = false;
    if (!(insn->prefixes & X86_PREFIX_VEX) || begins_with(form->mnemonic, "vpcmpestr") ||
        begins_with(form->mnemonic, "vpcmpistr") || begins_with(form->mnemonic, "vmaskmovdqu"))
        return false;
    for (unsigned i = 0; i < ARRAY_LEN(form->operand); i++) {
        switch (form->operand[i].kind) {
        case OPK_V:
        case OPK_H:
        case OPK_W: vector = true; break;
        case OPK_MV: return false; /* gathers */
        }
    }
    return vector;
}

bool x86_runs_natively(const struct x86_model *m, const struct x86_insn *insn)
{
    return x86_is_native(m, x86_form(insn)) || ((m->xcr0 & XCR0_AVX512) && clears_zmm(insn));
}
