/*
 * Instructions that have no semantics of ours, but that the model has (`--cpu host`): the host's
 * processor executes them, in translated code or one at a time where it can't be left alone with
 * them (x86_cpu.native).
 */
#ifndef DOPPEL_X86_NATIVE_H
#define DOPPEL_X86_NATIVE_H

#include "x86/cpuid.h"
#include "x86/forms.h"

static inline bool x86_is_native(const struct x86_model *m, const struct x86_form *form)
{
    return m->native[form->feature / 64] >> (form->feature % 64) & 1;
}

/* The vector state that such an instruction wants enabled; else it raises #UD. */
enum x86_native_state { X86_NATIVE_SSE, X86_NATIVE_AVX, X86_NATIVE_AVX512 };

/* Forms on mask registers are VEX-encoded and AVX-512's. */
static inline enum x86_native_state x86_native_state(const struct x86_form *form)
{
    if ((form->flags & X86_FORM_EVEX) ||
        (form->feature >= X86_FEATURE_AVX512F && form->feature <= X86_FEATURE_AVX512FP16))
        return X86_NATIVE_AVX512;
    return form->flags & X86_FORM_VEX ? X86_NATIVE_AVX : X86_NATIVE_SSE;
}

/* Whether an instruction in C is one for x86_cpu.native: it has no semantics here, or they would
 * leave alone what it clears. */
bool x86_runs_natively(const struct x86_model *m, const struct x86_insn *insn);

#endif
