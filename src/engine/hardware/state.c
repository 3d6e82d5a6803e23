/*
 * The neutral state into KVM and out of it: general registers, segments and control registers,
 * debug registers, pending events. (FPU and vectors: fpu.c, MSRs: msr.c.)
 */
#include <sys/ioctl.h>

#include "engine/hardware/hardware.h"
#include "x86/exception.h"
#include "x86/flags.h"
#include "x86/msr.h"

bool hardware_fail(struct engine_vcpu *v, const char *what)
{
    if (!v->broken)
        error_errno(&v->error, "engine hardware: vCPU %u: %s", v->cpu.index, what);
    v->broken = true;
    return false;
}

/* ---- general registers ---- */

/* Where each register is in struct kvm_regs, by its number in instructions. */
#define PLACE(name) offsetof(struct kvm_regs, name)
static const uint8_t gpr_place[16] = {
    PLACE(rax), PLACE(rcx), PLACE(rdx), PLACE(rbx), PLACE(rsp), PLACE(rbp), PLACE(rsi), PLACE(rdi),
    PLACE(r8),  PLACE(r9),  PLACE(r10), PLACE(r11), PLACE(r12), PLACE(r13), PLACE(r14), PLACE(r15),
};
#undef PLACE

static void put_regs(const struct x86_state *s, struct kvm_regs *regs)
{
    regs->rip = s->rip;
    regs->rflags = s->rflags;
    for (unsigned i = 0; i < 16; i++)
        store_u64((uint8_t *)regs + gpr_place[i], s->gpr[i]);
}

static void take_regs(struct x86_state *s, const struct kvm_regs *regs)
{
    s->rip = regs->rip;
    s->rflags = regs->rflags;
    for (unsigned i = 0; i < 16; i++)
        s->gpr[i] = load_u64((const uint8_t *)regs + gpr_place[i]);
}

static bool load_regs(struct engine_vcpu *v)
{
    struct kvm_regs regs;
    put_regs(&v->cpu.s, &regs);
    return ioctl(v->fd, KVM_SET_REGS, &regs) == 0 || hardware_fail(v, "KVM_SET_REGS");
}

static bool fetch_regs(struct engine_vcpu *v)
{
    struct kvm_regs regs;
    if (ioctl(v->fd, KVM_GET_REGS, &regs) != 0)
        return hardware_fail(v, "KVM_GET_REGS");
    take_regs(&v->cpu.s, &regs);
    return true;
}

/* ---- segments ---- */

static struct kvm_segment to_kvm_segment(const struct x86_segment *s)
{
    return (struct kvm_segment){
        .base = s->base,
        .limit = s->limit,
        .selector = s->selector,
        .type = s->attr & SEG_TYPE,
        .s = (s->attr & SEG_S) != 0,
        .dpl = (s->attr & SEG_DPL) >> SEG_DPL_SHIFT,
        .present = (s->attr & SEG_P) != 0,
        .avl = (s->attr & SEG_AVL) != 0,
        .l = (s->attr & SEG_L) != 0,
        .db = (s->attr & SEG_DB) != 0,
        .g = (s->attr & SEG_G) != 0,
        .unusable = (s->attr & SEG_UNUSABLE) != 0,
    };
}

static struct x86_segment from_kvm_segment(const struct kvm_segment *k)
{
    uint32_t attr = (k->type & SEG_TYPE) | (uint32_t)k->dpl << SEG_DPL_SHIFT;
    attr |= (k->s ? SEG_S : 0u) | (k->present ? SEG_P : 0u) | (k->avl ? SEG_AVL : 0u) |
            (k->l ? SEG_L : 0u) | (k->db ? SEG_DB : 0u) | (k->g ? SEG_G : 0u) |
            (k->unusable ? SEG_UNUSABLE : 0u);
    return (struct x86_segment){
        .base = k->base, .limit = k->limit, .attr = attr, .selector = k->selector};
}

/* Both forms of the ioctl's struct begin alike. */
#define EACH_SEGMENT(sregs, s)                                                                     \
    {                                                                                              \
        {&(sregs)->es, &(s)->seg[X86_ES]}, {&(sregs)->cs, &(s)->seg[X86_CS]},                      \
            {&(sregs)->ss, &(s)->seg[X86_SS]}, {&(sregs)->ds, &(s)->seg[X86_DS]},                  \
            {&(sregs)->fs, &(s)->seg[X86_FS]}, {&(sregs)->gs, &(s)->seg[X86_GS]},                  \
            {&(sregs)->ldt, &(s)->ldtr}, {&(sregs)->tr, &(s)->tr},                                 \
    }

struct segment_pair {
    struct kvm_segment *kvm;
    struct x86_segment *own;
};

/* ---- control registers, with the segments ---- */

static bool uses_pdptes(const struct x86_state *s)
{
    return (s->cr0 & CR0_PG) && (s->cr4 & CR4_PAE) && !(s->efer & EFER_LMA);
}

/* Where the machine's local APIC is not KVM's, KVM need only know whether there is one, for CPUID.
 */
static uint64_t apic_base(struct engine_vcpu *v)
{
    enum { X2APIC = 1u << 10 };
    const struct x86_host *h = &v->cpu.host;
    uint64_t base = UINT64_C(0xfee00900);
    if (v->vm->keeps_apics)
        return v->apic_base;
    if (h->msr_read)
        h->msr_read(h->ctx, MSR_APIC_BASE, &base);
    return base & ~(uint64_t)X2APIC;
}

static void put_sregs(struct engine_vcpu *v, struct kvm_sregs2 *k)
{
    struct x86_state *s = &v->cpu.s;
    *k = (struct kvm_sregs2){
        .gdt = {.base = s->gdtr.base, .limit = s->gdtr.limit},
        .idt = {.base = s->idtr.base, .limit = s->idtr.limit},
        .cr0 = s->cr0,
        .cr2 = s->cr2,
        .cr3 = s->cr3,
        .cr4 = s->cr4,
        .cr8 = v->run->cr8,
        .efer = s->efer,
        .apic_base = apic_base(v),
    };
    const struct segment_pair pairs[] = EACH_SEGMENT(k, s);
    for (unsigned i = 0; i < ARRAY_LEN(pairs); i++)
        *pairs[i].kvm = to_kvm_segment(pairs[i].own);
    if (uses_pdptes(s)) {
        k->flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
        memcpy(k->pdptrs, s->pdpte, sizeof k->pdptrs);
    }
}

/* The older form of the ioctl's struct ends otherwise. */
enum { SREGS_ALIKE = offsetof(struct kvm_sregs, interrupt_bitmap) };

static bool load_sregs(struct engine_vcpu *v)
{
    struct kvm_sregs2 k;
    put_sregs(v, &k);
    if (v->vm->kvm.sregs2)
        return ioctl(v->fd, KVM_SET_SREGS2, &k) == 0 || hardware_fail(v, "KVM_SET_SREGS2");
    struct kvm_sregs old = {0};
    memcpy(&old, &k, SREGS_ALIKE);
    return ioctl(v->fd, KVM_SET_SREGS, &old) == 0 || hardware_fail(v, "KVM_SET_SREGS");
}

static bool get_sregs(struct engine_vcpu *v, struct kvm_sregs2 *k)
{
    if (v->vm->kvm.sregs2)
        return ioctl(v->fd, KVM_GET_SREGS2, k) == 0 || hardware_fail(v, "KVM_GET_SREGS2");
    struct kvm_sregs old;
    if (ioctl(v->fd, KVM_GET_SREGS, &old) != 0)
        return hardware_fail(v, "KVM_GET_SREGS");
    memcpy(k, &old, SREGS_ALIKE);
    return true;
}

static void take_sregs(struct x86_state *s, struct kvm_sregs2 *k)
{
    const struct segment_pair pairs[] = EACH_SEGMENT(k, s);
    for (unsigned i = 0; i < ARRAY_LEN(pairs); i++)
        *pairs[i].own = from_kvm_segment(pairs[i].kvm);
    s->gdtr = (struct x86_table){k->gdt.base, k->gdt.limit};
    s->idtr = (struct x86_table){k->idt.base, k->idt.limit};
    s->cr0 = k->cr0;
    s->cr2 = k->cr2;
    s->cr3 = k->cr3;
    s->cr4 = k->cr4;
    s->efer = k->efer;
    if (k->flags & KVM_SREGS2_FLAGS_PDPTRS_VALID)
        memcpy(s->pdpte, k->pdptrs, sizeof k->pdptrs);
}

static bool fetch_sregs(struct engine_vcpu *v)
{
    struct kvm_sregs2 k = {0};
    if (!get_sregs(v, &k))
        return false;
    take_sregs(&v->cpu.s, &k);
    if (v->vm->keeps_apics) {
        v->apic_base = k.apic_base;
        v->run->cr8 = k.cr8;
    }
    return true;
}

/* Whether they are what they were when `then` was put. */
bool hardware_same_sregs(struct engine_vcpu *v, const struct kvm_sregs2 *then)
{
    struct kvm_sregs2 now;
    put_sregs(v, &now);
    return memcmp(&now, then, sizeof now) == 0;
}

void hardware_put_sregs(struct engine_vcpu *v, struct kvm_sregs2 *to)
{
    put_sregs(v, to);
}

/* ---- debug registers ---- */

static bool load_debug(struct engine_vcpu *v)
{
    const struct x86_state *s = &v->cpu.s;
    struct kvm_debugregs k = {.dr6 = s->dr[6], .dr7 = s->dr[7]};
    memcpy(k.db, s->dr, sizeof k.db);
    return ioctl(v->fd, KVM_SET_DEBUGREGS, &k) == 0 || hardware_fail(v, "KVM_SET_DEBUGREGS");
}

static bool fetch_debug(struct engine_vcpu *v)
{
    struct x86_state *s = &v->cpu.s;
    struct kvm_debugregs k;
    if (ioctl(v->fd, KVM_GET_DEBUGREGS, &k) != 0)
        return hardware_fail(v, "KVM_GET_DEBUGREGS");
    memcpy(s->dr, k.db, sizeof k.db);
    s->dr[6] = k.dr6;
    s->dr[7] = k.dr7;
    return true;
}

/* ---- events ---- */

static bool load_events(struct engine_vcpu *v)
{
    const struct x86_state *s = &v->cpu.s;
    bool interrupt = s->event_pending && s->event_type == X86_EXTERNAL_INTERRUPT;
    bool nmi = s->event_pending && s->event_type == X86_EVENT_NMI;
    struct kvm_vcpu_events k = {
        .flags = KVM_VCPUEVENT_VALID_SHADOW | (v->stepping ? 0 : KVM_VCPUEVENT_VALID_NMI_PENDING),
        .interrupt = {.injected = interrupt,
                      .nr = s->event_vector,
                      .shadow = (s->shadow_ss ? KVM_X86_SHADOW_INT_MOV_SS : 0) |
                                (s->shadow_sti ? KVM_X86_SHADOW_INT_STI : 0)},
        .nmi = {.injected = nmi, .pending = s->nmi_pending, .masked = s->nmi_blocked},
    };
    if (s->event_pending && !interrupt && !nmi) {
        k.exception.injected = true;
        k.exception.nr = s->event_vector;
        k.exception.has_error_code = s->event_has_error;
        k.exception.error_code = s->event_error;
    }
    return ioctl(v->fd, KVM_SET_VCPU_EVENTS, &k) == 0 || hardware_fail(v, "KVM_SET_VCPU_EVENTS");
}

static void take_event(struct x86_state *s, enum x86_event_type type, uint8_t vector)
{
    s->event_pending = true;
    s->event_type = (uint8_t)type;
    s->event_vector = vector;
    s->event_has_error = false;
    s->event_error = 0;
}

/* Events of instructions (INT n, INT3, INTO) are not pending for us: RIP is still at the
 * instruction, which is simply executed again. */
static bool fetch_events(struct engine_vcpu *v)
{
    struct x86_state *s = &v->cpu.s;
    struct kvm_vcpu_events k;
    if (ioctl(v->fd, KVM_GET_VCPU_EVENTS, &k) != 0)
        return hardware_fail(v, "KVM_GET_VCPU_EVENTS");
    s->shadow_sti = k.interrupt.shadow & KVM_X86_SHADOW_INT_STI;
    s->shadow_ss = k.interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS;
    s->nmi_pending = k.nmi.pending;
    s->nmi_blocked = k.nmi.masked;
    s->event_pending = false;
    if (k.exception.injected && k.exception.nr != X86_BP && k.exception.nr != X86_OF) {
        take_event(s, X86_HARDWARE_EXCEPTION, k.exception.nr);
        s->event_has_error = k.exception.has_error_code;
        s->event_error = k.exception.error_code;
    } else if (k.nmi.injected) {
        take_event(s, X86_EVENT_NMI, X86_NMI);
    } else if (k.interrupt.injected && !k.interrupt.soft) {
        take_event(s, X86_EXTERNAL_INTERRUPT, k.interrupt.nr);
    }
    return true;
}

/* ---- what the vCPU does, where its local APIC is KVM's ---- */

static const uint32_t mp_states[] = {
    [X86_ACTIVE] = KVM_MP_STATE_RUNNABLE,
    [X86_HALTED] = KVM_MP_STATE_HALTED,
    [X86_SHUTDOWN] = KVM_MP_STATE_RUNNABLE,
    [X86_WAIT_FOR_SIPI] = KVM_MP_STATE_INIT_RECEIVED,
};

static bool load_activity(struct engine_vcpu *v)
{
    struct kvm_mp_state k = {mp_states[v->cpu.s.activity]};
    return !v->vm->keeps_apics || ioctl(v->fd, KVM_SET_MP_STATE, &k) == 0 ||
           hardware_fail(v, "KVM_SET_MP_STATE");
}

/* KVM acts on an INIT that came, so this is to be asked for before all else. */
static bool fetch_activity(struct engine_vcpu *v)
{
    struct kvm_mp_state k;
    struct x86_state *s = &v->cpu.s;
    if (!v->vm->keeps_apics)
        return true;
    if (ioctl(v->fd, KVM_GET_MP_STATE, &k) != 0)
        return hardware_fail(v, "KVM_GET_MP_STATE");
    if (k.mp_state == KVM_MP_STATE_HALTED)
        s->activity = X86_HALTED;
    else if (k.mp_state != KVM_MP_STATE_RUNNABLE)
        s->activity = X86_WAIT_FOR_SIPI;
    else if (s->activity != X86_SHUTDOWN)
        s->activity = X86_ACTIVE;
    return true;
}

/* ---- extended control registers ---- */

static bool has_xsave(const struct engine_vcpu *v)
{
    return x86_model_has(v->vm->model, "xsave");
}

static bool load_xcr0(struct engine_vcpu *v)
{
    struct kvm_xcrs k = {.nr_xcrs = 1, .xcrs[0] = {.value = v->cpu.s.xcr0}};
    return !has_xsave(v) || ioctl(v->fd, KVM_SET_XCRS, &k) == 0 || hardware_fail(v, "KVM_SET_XCRS");
}

static bool fetch_xcr0(struct engine_vcpu *v)
{
    struct kvm_xcrs k;
    if (!has_xsave(v))
        return true;
    if (ioctl(v->fd, KVM_GET_XCRS, &k) != 0)
        return hardware_fail(v, "KVM_GET_XCRS");
    for (unsigned i = 0; i < k.nr_xcrs && i < KVM_MAX_XCRS; i++)
        if (k.xcrs[i].xcr == 0)
            v->cpu.s.xcr0 = k.xcrs[i].value;
    return true;
}

/* ---- the whole ---- */

bool hardware_load(struct engine_vcpu *v)
{
    if (v->loaded)
        return true;
    /* A processor that begins anew leaves VMX operation, which holds on to CR4.VMXE, first. EFER,
     * which goes with the control registers, decides what other registers may hold, and events come
     * last: setting registers drops them. */
    bool ok = (!v->begins || hardware_reset_offered_msrs(v)) && (v->same_sregs || load_sregs(v)) &&
              load_regs(v) && load_xcr0(v) && hardware_load_fpu(v) && hardware_load_msrs(v) &&
              load_debug(v) && load_events(v) && load_activity(v);
    v->same_sregs = v->stepping = v->begins = false;
    v->loaded = v->fresh = ok;
    return ok;
}

bool hardware_fetch(struct engine_vcpu *v)
{
    if (!v->loaded)
        return true;
    return fetch_activity(v) && fetch_sregs(v) && fetch_regs(v) && fetch_xcr0(v) &&
           hardware_fetch_fpu(v) && hardware_fetch_msrs(v) && fetch_debug(v) && fetch_events(v);
}

/* ---- the part that users have to do with ---- */

/* What only a system changes is given to KVM again when it has changed. */
static bool prepare(struct engine_vcpu *v)
{
    const struct x86_state *s = &v->cpu.s;
    if (v->prepared && v->given.xcr0 == s->xcr0 && v->given.tsc_aux == s->tsc_aux)
        return true;
    v->given.xcr0 = s->xcr0;
    v->given.tsc_aux = s->tsc_aux;
    v->prepared = load_xcr0(v) && hardware_load_user_msrs(v);
    return v->prepared;
}

/* General registers, segments and events travel in the area shared with KVM: an ioctl for each
 * would take longer than the user runs. */
enum { SHARED = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS };

static void share(struct engine_vcpu *v)
{
    struct kvm_sync_regs *to = &v->run->s.regs;
    struct kvm_sregs2 k;
    put_regs(&v->cpu.s, &to->regs);
    put_sregs(v, &k);
    to->sregs = (struct kvm_sregs){0};
    memcpy(&to->sregs, &k, SREGS_ALIKE);
    v->run->kvm_dirty_regs |= SHARED;
    v->run->kvm_valid_regs = SHARED | KVM_SYNC_X86_EVENTS;
    if (v->unsettled) {
        to->events = (struct kvm_vcpu_events){0};
        v->run->kvm_dirty_regs |= KVM_SYNC_X86_EVENTS;
    }
    v->unsettled = false;
}

bool hardware_load_user(struct engine_vcpu *v)
{
    struct x86_state *s = &v->cpu.s;
    struct x86_table idtr = s->idtr;
    s->idtr = (struct x86_table){0};
    share(v);
    s->idtr = idtr;
    v->loaded = prepare(v) && hardware_load_fpu(v);
    return v->loaded;
}

/* An exception that shut the vCPU down is no longer pending, but told all the same. */
static void take_exception(struct engine_vcpu *v)
{
    const struct kvm_vcpu_events *k = &v->run->s.regs.events;
    bool shut_down = !v->users && v->run->exit_reason == KVM_EXIT_SHUTDOWN;
    v->unsettled = k->exception.injected || k->exception.pending;
    v->exception = shut_down || v->unsettled ? k->exception.nr : NO_EXCEPTION;
}

bool hardware_fetch_user(struct engine_vcpu *v)
{
    struct x86_state *s = &v->cpu.s;
    struct x86_table idtr = s->idtr;
    uint64_t cr2 = s->cr2;
    struct kvm_sregs2 k = {0};
    memcpy(&k, &v->run->s.regs.sregs, SREGS_ALIKE);
    take_sregs(s, &k);
    take_regs(s, &v->run->s.regs.regs);
    s->idtr = idtr;
    s->cr2 = cr2;
    take_exception(v);
    return hardware_fetch_fpu(v);
}
