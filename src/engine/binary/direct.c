#include "engine/binary/direct.h"

#include "engine/binary/cage.h"
#include "engine/binary/loop.h"
#include "engine/binary/show.h"
#include "x86/debug.h"
#include "x86/exception.h"
#include "x86/flags.h"
#include "x86/segment.h"

/* ---- when it pays ---- */

/* On the host's time-stamp counter, of some 2 to 4 GHz. A way into the guest's kernel costs 10 to
 * 40 us from a cage, and user code runs two to four times as fast there. */
enum {
    MICROSECOND = 2500,
    WATCH = 2000 * MICROSECOND,     /* for how long translated code is watched */
    WORTH = 60 * MICROSECOND,       /* between two ways into the kernel, in translated code */
    STAYS_WORTH = 25 * MICROSECOND, /* of a cage's run, from going there to being back */
    TSC_COSTS = 12 * MICROSECOND,   /* of that, where RDTSC faults */
    TOGETHER = 20000 * MICROSECOND, /* cage and vCPU on one processor, without a look round */
    PAUSE = 10000 * MICROSECOND,
};
enum { STOPS_WATCHED = 32, PAUSE_GROWS = 3 };
static const uint64_t longest_pause = UINT64_C(1000000) * MICROSECOND;

static uint64_t now(void)
{
    return __builtin_ia32_rdtsc();
}

/* How often user code has come to the kernel by itself. */
static uint64_t times_entered(const struct binary_vcpu *b)
{
    return b->context->syscalls + b->user_faults;
}

static void watch(struct binary_vcpu *b, struct direct *d)
{
    d->since = now();
    d->entered = times_entered(b);
    d->stops = 0;
    d->inside = 0;
}

static void turn_off(struct binary_vcpu *b, struct direct *d)
{
    d->on = false;
    d->pause = d->pause ? d->pause * PAUSE_GROWS : PAUSE;
    if (d->pause > longest_pause)
        d->pause = longest_pause;
    d->again = now() + d->pause;
    watch(b, d);
}

static void turn_on(struct binary_vcpu *b, struct direct *d)
{
    d->on = true;
    spaces_forget_user_jumps(space_now(&b->spaces)); /* whatever user code goes to, C is asked */
    watch(b, d);
}

static void begin(struct binary_vcpu *b, struct direct *d, uint64_t root)
{
    d->root = root;
    d->on = d->filled = false;
    d->again = d->pause = 0;
    watch(b, d);
}

/* That of the address space of now: of as many as there are, the one that was not asked for for the
 * longest time is given to one that had none. */
static struct direct *direct_now(struct binary_vcpu *b)
{
    uint64_t root = b->v->cpu.s.cr3 & X86_PAGE_MASK;
    struct direct *found = b->direct_now;
    if (found && found->root == root)
        return found;
    found = &b->direct[0];
    for (unsigned i = 0; i < ARRAY_LEN(b->direct) && found->root != root; i++)
        if (b->direct[i].root == root || b->direct[i].last < found->last)
            found = &b->direct[i];
    if (found->root != root)
        begin(b, found, root);
    found->last = ++b->direct_asked;
    b->direct_now = found;
    return found;
}

static void part(struct binary_vcpu *b)
{
    if (b->stays)
        cage_roam(b->stays);
    b->stays = NULL;
}

void binary_direct_leave(struct binary_vcpu *b)
{
    binary_fpu_home(b);
    part(b);
}

void binary_direct_consider(struct binary_vcpu *b)
{
    enum engine_direct wish = b->vm->direct;
    struct direct *d = direct_now(b);
    uint64_t at = now(), watched = at - d->since;
    if (b->stays && at - b->met > TOGETHER)
        part(b);
    if (wish == ENGINE_DIRECT_NEVER || b->counted || d->on)
        return;
    if (wish == ENGINE_DIRECT_ALWAYS) {
        turn_on(b, d);
    } else if (at >= d->again && watched >= WATCH) {
        uint64_t times = times_entered(b) - d->entered;
        if (watched < 10 * WATCH && watched / (times + 1) > WORTH)
            turn_on(b, d);
        else
            watch(b, d);
    }
}

/* After each stop: whether it goes on to pay. */
static void count_stop(struct binary_vcpu *b, struct direct *d, uint64_t inside)
{
    d->inside += inside;
    if (++d->stops < STOPS_WATCHED)
        return;
    uint64_t worth = STAYS_WORTH + (d->cage && d->cage->tsc_faults ? TSC_COSTS : 0);
    if (d->inside / d->stops < worth && b->vm->direct != ENGINE_DIRECT_ALWAYS) {
        turn_off(b, d);
        return;
    }
    d->pause = 0;
    watch(b, d);
}

/* ---- running ---- */

/* What user code finds in a cage that is not the guest's own: selectors, and flags. A SYSCALL has
 * changed RCX and R11 when it is told of, and Linux takes no base outside of the lower half. */
static bool looks_the_same(const struct x86_cpu *c)
{
    enum {
        OTHER = FLAG_TF | FLAG_RF | FLAG_NT | FLAG_AC | FLAG_ID | FLAG_VM | FLAG_VIF | FLAG_VIP |
                FLAG_IOPL
    };
    const struct x86_segment *seg = c->s.seg;
    return (c->s.rflags & (FLAG_IF | OTHER)) == FLAG_IF && seg[X86_CS].selector == CAGE_CS &&
           seg[X86_SS].selector == CAGE_SS && !seg[X86_DS].selector && !seg[X86_ES].selector &&
           !seg[X86_FS].selector && !seg[X86_GS].selector && (c->s.cr4 & CR4_FSGSBASE) &&
           seg[X86_FS].base < CAGE_TOP && seg[X86_GS].base < CAGE_TOP && (c->s.efer & EFER_SCE) &&
           !c->no_x87 && !c->no_sse && !c->no_avx;
}

bool binary_is_direct(struct binary_vcpu *b)
{
    return direct_now(b)->on;
}

bool binary_may_go_direct(struct binary_vcpu *b)
{
    return b->vm->direct != ENGINE_DIRECT_NEVER && !b->counted;
}

bool binary_direct_fits(struct binary_vcpu *b)
{
    const struct x86_cpu *c = &b->v->cpu;
    if (!is_user(c) || b->counted || b->by_block || !direct_now(b)->on)
        return false;
    if (c->s.rip == b->call_rip) {
        b->call_rip = UINT64_MAX;
        return false;
    }
    return looks_the_same(c);
}

static void to_registers(struct x86_cpu *c, struct user_regs_struct *r)
{
    const uint64_t *g = c->s.gpr;
    *r = (struct user_regs_struct){
        .rax = g[X86_RAX],
        .rcx = g[X86_RCX],
        .rdx = g[X86_RDX],
        .rbx = g[X86_RBX],
        .rsp = g[X86_RSP],
        .rbp = g[X86_RBP],
        .rsi = g[X86_RSI],
        .rdi = g[X86_RDI],
        .r8 = g[8],
        .r9 = g[9],
        .r10 = g[10],
        .r11 = g[11],
        .r12 = g[12],
        .r13 = g[13],
        .r14 = g[14],
        .r15 = g[15],
        .rip = c->s.rip,
        .eflags = x86_rflags(c),
        .fs_base = c->s.seg[X86_FS].base,
        .gs_base = c->s.seg[X86_GS].base,
    };
}

/* What a cage may have loaded: the host's descriptors are flat, as those are of a guest that has
 * the same selectors. */
static void take_selector(struct x86_cpu *c, unsigned seg, uint64_t selector)
{
    struct x86_segment *s = &c->s.seg[seg];
    if (selector != s->selector)
        *s = selector > 3 ? x86_flat_stack((uint16_t)selector, 3)
                          : x86_null_segment((uint16_t)selector);
}

static void take_selectors(struct x86_cpu *c, const struct user_regs_struct *r)
{
    take_selector(c, X86_DS, r->ds);
    take_selector(c, X86_ES, r->es);
    take_selector(c, X86_FS, r->fs);
    take_selector(c, X86_GS, r->gs);
    if (r->cs == CAGE_CS)
        return;
    c->s.seg[X86_CS] = x86_flat_code((uint16_t)r->cs, 3, false); /* compatibility mode */
    x86_update_mode(c);
}

static void from_registers(struct x86_cpu *c, const struct user_regs_struct *r)
{
    const uint64_t g[16] = {r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp, r->rsi, r->rdi,
                            r->r8,  r->r9,  r->r10, r->r11, r->r12, r->r13, r->r14, r->r15};
    bytes_copy(c->s.gpr, g, sizeof g);
    c->s.rip = r->rip;
    take_selectors(c, r);
    c->s.seg[X86_FS].base = r->fs_base;
    c->s.seg[X86_GS].base = r->gs_base;
    x86_set_rflags(c, (r->eflags & ~(uint64_t)FLAG_RF) | FLAG_IF);
}

static bool lost(struct binary_vcpu *b, struct direct *d, enum engine_exit *exit)
{
    binary_direct_leave(b);
    direct_end(d);
    b->failure = "engine binary: the process that ran the guest's user code was killed";
    *exit = ENGINE_FAILED;
    return true;
}

/* The cage is of no use; perhaps another one will be. */
static bool give_up(struct binary_vcpu *b, struct direct *d, enum engine_exit *exit)
{
    if (d->cage && cage_is_gone(d->cage))
        return lost(b, d, exit);
    binary_direct_leave(b);
    direct_end(d);
    turn_off(b, d);
    return false;
}

static struct cage *cage_of(struct binary_vcpu *b, struct direct *d)
{
    if (d->cage && !cage_is_mine(d->cage))
        direct_end(d); /* it was left when run() came back */
    if (!d->cage) {
        d->cage = cage_create(b->v->vm->memory->fd, NULL); /* why not is of no concern */
        if (!d->cage)
            b->vm->direct = ENGINE_DIRECT_NEVER;
    }
    return d->cage;
}

void direct_end(struct direct *d)
{
    cage_destroy(d->cage);
    d->cage = NULL;
    mirror_clear(&d->mirror);
    d->guards = (struct guards){0};
    d->maps = 0;
    d->filled = false;
}

/* Everything as the tables have it. False: the cage is of no use. */
static bool get_ready(struct binary_vcpu *b, struct direct *d)
{
    enum show_state state = show_catch_up(b, d);
    if (state == SHOW_BROKEN)
        return false;
    if (state == SHOW_OTHER) {
        begin(b, d, d->root);
        return show_clear(d);
    }
    /* The kernel's translated code is to come to C on its way to user code, whose vector registers
     * are in the cage: find.c puts no more targets there. */
    struct space *s = space_now(&b->spaces);
    if (s->jumps.count || s->jumps.global)
        spaces_forget_user_jumps(s);
    if (!d->filled)
        show_table(b, d);
    d->filled = true;
    if (b->v->cpu.s.rip == b->retry_rip) {
        b->retry_rip = UINT64_MAX;
        show_data_at(b, d, b->retry_lin, b->retry_write);
    }
    return true;
}

/* An access of the instruction at RIP to what is not shown so. False: it is not to be. */
static bool serve_fault(struct binary_vcpu *b, struct direct *d, uint64_t at)
{
    uint64_t rip = b->v->cpu.s.rip, last = rip + X86_INSN_MAX - 1;
    bool fetched = !((at ^ rip) & X86_PAGE_MASK) || !((at ^ last) & X86_PAGE_MASK);
    if (at >= CAGE_TOP)
        return false;
    if (fetched && !show_has_code(d, at))
        return show_code_at(b, d, at);
    return show_data_at(b, d, at, show_has(d, at)); /* what can be read was to be written */
}

/* Runs the cage once. */
static enum cage_stop run_once(struct binary_vcpu *b, struct direct *d, uint64_t *address)
{
    struct x86_cpu *c = &b->v->cpu;
    struct user_regs_struct r;
    enum cage_stop stop = CAGE_ASKED;
    to_registers(c, &r);
    if (b->stays != d->cage) {
        cage_stay(d->cage);
        b->met = now();
        b->stays = d->cage;
    }
    b->caged = d->cage;
    atomic_store(&b->running, true);
    if (!(atomic_load(&c->request) & binary_attended(c))) {
        uint64_t began = now();
        stop = cage_run(d->cage, &r, address);
        uint64_t took = now() - began;
        b->stopped[stop].count++;
        b->stopped[stop].cycles += took;
        count_stop(b, d, took);
        if (stop != CAGE_LOST && stop != CAGE_STUCK)
            from_registers(c, &r);
    }
    atomic_store(&b->running, false);
    b->caged = NULL;
    return stop;
}

/* After a single step, the trap comes next. */
static void trap_step(struct x86_cpu *c)
{
    x86_debug_record(c, DR6_BS);
    c->s.event_pending = true;
    c->s.event_vector = X86_DB;
    c->s.event_type = X86_HARDWARE_EXCEPTION;
    c->s.event_has_error = false;
}

/* The byte of user code there, or -1. */
static int code_byte(struct binary_vcpu *b, uint64_t at)
{
    struct x86_walk w;
    const uint8_t *byte = NULL;
    if (x86_walk(&b->v->cpu, at, X86_PEEK, X86_AS_USER, &w))
        byte = memory_hva(b->v->vm->memory, w.gpa);
    return byte ? *byte : -1;
}

/* Back to where INT3 or its like begins, which raised a trap behind it. (Where the host is a guest
 * itself, INT1 may raise it where it is.) */
static void before_trap(struct binary_vcpu *b)
{
    struct x86_cpu *c = &b->v->cpu;
    int before = code_byte(b, c->s.rip - 1);
    if (before == 0xcc || before == 0xf1)
        c->s.rip -= 1;
    else if (before == 3) /* INT 3: CD 03 */
        c->s.rip -= 2;
}

/* SYSCALL in C; INT 80H stops a cage as well. */
static void run_call(struct binary_vcpu *b)
{
    static const uint8_t syscall[] = {0x0f, 0x05};
    _Alignas(struct block) uint8_t room[sizeof(struct block) + 2 * sizeof(struct op)];
    struct block *block = (struct block *)(void *)room;
    struct x86_cpu *c = &b->v->cpu;
    struct x86_insn insn;
    c->s.rip -= 2;
    if (code_byte(b, c->s.rip) != syscall[0] ||
        !emulate_single(b->v, syscall, sizeof syscall, &insn, block)) {
        binary_emulate_one(b);
        return;
    }
    b->keep_vectors = true;
    emulate_run_single(b->v, block);
    b->keep_vectors = false;
}

bool binary_direct_run(struct binary_vcpu *b, enum engine_exit *exit)
{
    struct x86_cpu *c = &b->v->cpu;
    struct direct *d = direct_now(b);
    uint64_t address;
    binary_forget_place(b);
    binary_outside(b);
    *exit = ENGINE_LIMIT;
    if (!cage_of(b, d) || !get_ready(b, d))
        return give_up(b, d, exit);
    if (d->on && !show_code_at(b, d, c->s.rip))
        count_stop(b, d, 0);
    if (!d->on || !show_has_code(d, c->s.rip))
        return false;
    if (show_is_behind(b)) /* to watch a page of code takes the right to write it away */
        return true;
    if (!binary_fpu_to_cage(b, d->cage))
        return give_up(b, d, exit);
    switch (run_once(b, d, &address)) {
    case CAGE_CALL: run_call(b); return true;
    case CAGE_FAULT:
        if (serve_fault(b, d, address))
            return true;
        if (!show_has_code(d, c->s.rip))
            return true; /* it is for translated code */
        b->retry_rip = c->s.rip;
        b->retry_lin = address;
        b->retry_write = false;
        break;
    case CAGE_TRAP:
        if (guard_is_ours(d, c->s.rip - 1)) {
            b->call_rip = --c->s.rip;
            return true;
        }
        before_trap(b);
        break;
    case CAGE_STEP: trap_step(c); return true;
    case CAGE_BREAK: b->call_rip = c->s.rip; return true;
    case CAGE_STOPS:
    case CAGE_EXCEPTION: break;
    case CAGE_ASKED: return true;
    case CAGE_STUCK: give_up(b, d, exit); return true;
    case CAGE_LOST: return lost(b, d, exit);
    }
    *exit = binary_emulate_one(b);
    return true;
}
