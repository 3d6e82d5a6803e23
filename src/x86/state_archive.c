#include "x86/state_archive.h"

#include "base/bits.h"
#include "x86/state.h"

#define MEMBER_SIZE(member) sizeof(((struct x86_state *)0)->member)

#define FIELD(member) ARCHIVE_FIELD(struct x86_state, member)
#define ARRAY(member) ARCHIVE_ARRAY(struct x86_state, member)

/* One member of something nested, under a name of its own. */
#define NESTED(name, member)                                                                       \
    {                                                                                              \
        name, offsetof(struct x86_state, member), MEMBER_SIZE(member), 1                           \
    }

#define SEGMENT(name, member)                                                                      \
    NESTED(name ".base", member.base), NESTED(name ".limit", member.limit),                        \
        NESTED(name ".attr", member.attr), NESTED(name ".selector", member.selector)

#define TABLE(name, member) NESTED(name ".base", member.base), NESTED(name ".limit", member.limit)

#define X87(name, member) NESTED(name ".mantissa", member.mantissa), NESTED(name ".se", member.se)

#define VECTORS(member, count)                                                                     \
    {                                                                                              \
#member, offsetof(struct x86_state, member), MEMBER_SIZE(member[0]), count                 \
    }
/* Missing in what was saved of a processor that has none. */
#define AVX512(member, count)                                                                      \
    {                                                                                              \
#member, offsetof(struct x86_state, member), MEMBER_SIZE(member[0]), count,                \
            .optional = true                                                                       \
    }

static const struct archive_field fields[] = {
    {"gpr", offsetof(struct x86_state, gpr), 8, 16},
    FIELD(rip),
    FIELD(rflags),
    SEGMENT("es", seg[X86_ES]),
    SEGMENT("cs", seg[X86_CS]),
    SEGMENT("ss", seg[X86_SS]),
    SEGMENT("ds", seg[X86_DS]),
    SEGMENT("fs", seg[X86_FS]),
    SEGMENT("gs", seg[X86_GS]),
    SEGMENT("ldtr", ldtr),
    SEGMENT("tr", tr),
    TABLE("gdtr", gdtr),
    TABLE("idtr", idtr),
    FIELD(cr0),
    FIELD(cr2),
    FIELD(cr3),
    FIELD(cr4),
    ARRAY(pdpte),
    ARRAY(dr),
    FIELD(xcr0),
    FIELD(pkru),
    FIELD(efer),
    FIELD(star),
    FIELD(lstar),
    FIELD(cstar),
    FIELD(sfmask),
    FIELD(kernel_gs_base),
    FIELD(tsc_aux),
    FIELD(sysenter_cs),
    FIELD(sysenter_esp),
    FIELD(sysenter_eip),
    FIELD(pat),
    FIELD(misc_enable),
    FIELD(debugctl),
    FIELD(mtrr_def_type),
    ARRAY(mtrr_fixed),
    ARRAY(mtrr_base),
    ARRAY(mtrr_mask),
    FIELD(spec_ctrl),
    FIELD(mcg_status),
    FIELD(xss),
    X87("r0", st[0]),
    X87("r1", st[1]),
    X87("r2", st[2]),
    X87("r3", st[3]),
    X87("r4", st[4]),
    X87("r5", st[5]),
    X87("r6", st[6]),
    X87("r7", st[7]),
    FIELD(fcw),
    FIELD(fsw),
    FIELD(ftag),
    FIELD(fop),
    FIELD(fip),
    FIELD(fdp),
    FIELD(fcs),
    FIELD(fds),
    VECTORS(vec, 16),
    FIELD(mxcsr),
    AVX512(opmask, 8),
    AVX512(zmm_upper, 16),
    AVX512(zmm_more, 16),
    FIELD(activity),
    FIELD(shadow_sti),
    FIELD(shadow_ss),
    FIELD(nmi_blocked),
    FIELD(nmi_pending),
    FIELD(event_pending),
    FIELD(event_vector),
    FIELD(event_type),
    FIELD(event_has_error),
    FIELD(event_error),
};

/* What the rest of x86/ relies on, whoever wrote the state. */
static const char *impossible(const struct x86_state *s)
{
    bool paging = s->cr0 & CR0_PG;
    bool long_mode = s->efer & EFER_LMA;
    if (paging && !(s->cr0 & CR0_PE))
        return "paging without protection";
    if (long_mode != (paging && (s->efer & EFER_LME)) || (long_mode && !(s->cr4 & CR4_PAE)))
        return "half of long mode";
    if ((s->rflags & FLAG_VM) && (long_mode || !(s->cr0 & CR0_PE)))
        return "virtual-8086 mode where there is none";
    if ((s->cr0 | s->cr4) >> 32 || s->cr3 >> 52)
        return "reserved bits in a control register";
    if (s->rflags >> 22)
        return "reserved bits in RFLAGS";
    if (s->mxcsr >> 16)
        return "reserved bits in MXCSR";
    if (s->activity > X86_WAIT_FOR_SIPI)
        return "an unknown activity";
    if (s->event_type > 6)
        return "an unknown kind of event";
    return NULL;
}

static bool after_load(void *object, struct error *err)
{
    struct x86_state *s = object;
    const char *why = impossible(s);
    if (why)
        return error_set(err, "saved state: a processor with %s", why);
    s->rflags |= FLAG_1;
    s->gpr[X86_GPR_ZERO] = 0;
    return true;
}

const struct archive_type x86_state_archive = {
    .name = "x86",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_LEN(fields),
    .after_load = after_load,
};
