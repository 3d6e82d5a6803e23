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
 * semantics know of 256. Gathers, masked moves and those that name registers which no field does
 * clear it themselves. */
static bool clears_zmm(const struct x86_insn *insn)
{
    static const char *const themselves[] = {"vpcmpestr", "vpcmpistr", "vmaskmov", "vpmaskmov"};
    const struct x86_form *form = x86_form(insn);
    if (!(insn->prefixes & X86_PREFIX_VEX) || x86_form_has(form, OPK_MV))
        return false;
    for (unsigned i = 0; i < ARRAY_LEN(themselves); i++)
        if (begins_with(form->mnemonic, themselves[i]))
            return false;
    return x86_form_has(form, OPK_V) || x86_form_has(form, OPK_H) || x86_form_has(form, OPK_W);
}

bool x86_runs_natively(const struct x86_model *m, const struct x86_insn *insn)
{
    return x86_is_native(m, x86_form(insn)) || ((m->xcr0 & XCR0_AVX512) && clears_zmm(insn));
}
