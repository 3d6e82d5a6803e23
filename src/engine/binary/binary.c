/*
 * The engine `binary`: vCPUs and what belongs to the whole machine.
 */
#include "engine/binary/binary.h"

#include <cpuid.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/loop.h"

/* ---- the host ---- */

#ifndef HWCAP2_FSGSBASE
#define HWCAP2_FSGSBASE (1 << 1)
#endif

static bool usable(char *why, size_t size)
{
    if (!(getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE)) {
        snprintf(why, size,
                 "the host's kernel does not let programs set the GS base (FSGSBASE); "
                 "Linux 5.9 or later does on processors since 2012");
        return false;
    }
    if (!__builtin_cpu_supports("bmi2") || !__builtin_cpu_supports("avx2")) {
        snprintf(why, size, "the host's processor lacks BMI2 or AVX2");
        return false;
    }
    snprintf(why, size, "works here");
    return true;
}

/* ---- code that is watched ---- */

static void watch(struct engine_vm *vm, uint64_t gpa)
{
    const struct memory_region *r = memory_find(vm->memory, gpa);
    for (unsigned i = 0; r && i < vm->created; i++) {
        struct binary_vcpu *b = binary_of(vm->vcpu[i]);
        if (b)
            spaces_protect(&b->spaces, memory_offset(r, gpa));
    }
}

static bool drop(struct engine_vm *vm, uint64_t gpa, uint64_t len)
{
    struct binary_vm *bvm = vm->attached;
    code_drop(&bvm->code, gpa, len, bvm->stale_piece);
    show_written(bvm, gpa);
    return code_has_page(&bvm->code, gpa);
}

/* Writes to a page of code, one after another in the same page, after which its code is given up:
 * such a page is being filled with something else. */
enum { WRITES_IN_A_ROW = 4 };

static bool give_up(struct engine_vm *vm, uint64_t gpa)
{
    struct binary_vm *b = vm->attached;
    uint64_t page = gpa >> MEMORY_PAGE_BITS;
    if (page != b->written_page) {
        b->written_page = page;
        b->writes = 0;
    }
    return ++b->writes >= WRITES_IN_A_ROW;
}

static const struct emulate_hooks hooks = {watch, drop, give_up};

static void tlb_flushed(struct x86_cpu *c)
{
    binary_forget_all(binary_of(c->engine));
}

static void tlb_switched(struct x86_cpu *c, bool keep)
{
    binary_switch_space(binary_of(c->engine), keep);
}

static void tlb_flushed_page(struct x86_cpu *c, uint64_t lin, unsigned bits)
{
    binary_forget_page(binary_of(c->engine), lin, bits);
}

/* ---- the virtual machine ---- */

/* The gate's: everyone is to come to it. */
static void ask_all(void *ctx)
{
    struct engine_vm *vm = ctx;
    for (unsigned i = 0; i < vm->created; i++) {
        atomic_fetch_or(&vm->cpus[i]->request, X86_REQUEST_GATE);
        if (vm->vcpu[i]->attached)
            binary_kick(binary_of(vm->vcpu[i]));
    }
}

/* A bit for each byte of RAM. */
static size_t marks_size(const struct binary_vm *b)
{
    return b->windows.size / 8 + 1; /* binary_vm.overran has one bit more */
}

static uint8_t *make_marks(const struct binary_vm *b)
{
    void *p = mmap(NULL, marks_size(b), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static void free_vm(struct binary_vm *b)
{
    free((void *)b->verdict);
    if (b->checked)
        munmap(b->checked, marks_size(b));
    if (b->overran)
        munmap(b->overran, marks_size(b));
    perf_map_close(&b->perf_map);
    free(b->forms);
    code_destroy(&b->code);
    windows_destroy(&b->windows);
    free(b);
}

static bool make_vm(struct binary_vm *b, struct engine_vm *vm, struct error *err)
{
    b->vm = vm;
    b->born = __builtin_ia32_rdtsc();
    b->born_ns = loop_now();
    if (!code_create(&b->code, err) || !windows_create(&b->windows, vm->memory, err))
        return false;
    b->windows.tables = TABLES_OF_A_VCPU * vm->vcpus;
    b->checked = make_marks(b);
    b->overran = make_marks(b);
    b->verdict = calloc(b->windows.size >> MEMORY_PAGE_BITS, sizeof *b->verdict);
    b->forms = binary_learn_forms(vm->model);
    binary_tsc_init(&b->tsc);
    if (!binary_fpu_find(b, vm->model, err))
        return false;
    if (!b->checked || !b->overran || !b->verdict || !b->forms || !binary_emit_pieces(b))
        return error_set(err, "engine binary: no memory");
    return binary_signals_install(err);
}

static bool vm_create(struct engine_vm **out, struct memory *memory, const struct x86_model *model,
                      unsigned vcpus, struct error *err)
{
    struct binary_vm *b = calloc(1, sizeof *b);
    *out = NULL;
    if (!b)
        return error_set(err, "engine binary: no memory");
    if (!engine_emulate.vm_create(out, memory, model, vcpus, err)) {
        free(b);
        return false;
    }
    struct engine_vm *vm = *out;
    if (!make_vm(b, vm, err)) {
        free_vm(b);
        engine_emulate.vm_destroy(vm);
        *out = NULL;
        return false;
    }
    vm->attached = b;
    vm->hooks = &hooks;
    vm->gate.ask = ask_all;
    return true;
}

static bool tune(struct engine_vm *vm, const struct engine_tuning *t, struct error *err)
{
    struct binary_vm *b = vm->attached;
    b->measures = t->measure;
    b->direct = t->direct;
    if (t->code_cache && !code_limit(&b->code, t->code_cache))
        return error_usage(err, "--code-cache: engine binary keeps from 256K to 24M of code; give "
                                "a size between");
    return !t->perf_map || perf_map_open(&b->perf_map, &b->code, err);
}

static void vm_destroy(struct engine_vm *vm)
{
    free_vm(vm->attached);
    engine_emulate.vm_destroy(vm);
}

/* ---- a vCPU ---- */

static bool make_tables(struct binary_vcpu *b, struct error *err)
{
    const struct code *code = &b->vm->code;
    void *lookup = code_run(code, (uint32_t)(b->vm->next_piece - code->write));
    if (!spaces_create(&b->spaces, &b->vm->windows, lookup, err))
        return false;
    uint8_t *area = (uint8_t *)b->spaces.supervisor.entry - AREA_SIZE;
    b->context = (struct context *)(void *)area;
    b->v = (struct engine_vcpu *)(void *)(area + CONTEXT_SIZE);
    return true;
}

static void free_vcpu(struct binary_vcpu *b)
{
    bounce_destroy(b);
    free(b->single);
    binary_statistics_fini(b);
    for (unsigned n = 0; n < DIRECTS; n++)
        direct_end(&b->direct[n]);
    spaces_destroy(&b->spaces);
    if (b->stack.ss_sp)
        munmap(b->stack.ss_sp, b->stack.ss_size);
    free(b);
}

static void fill_context(struct binary_vcpu *b)
{
    struct context *x = b->context;
    x->self = x;
    x->request = &b->v->cpu.request;
    x->offset_mask = MEMORY_PAGE_SIZE - 1;
    x->mask_jump = JUMPS - 1;
    x->status_mask = FLAGS_STATUS | FLAG_DF;
    x->mask_63 = 63;
    x->mask_not_63 = ~UINT64_C(63);
    x->mask_31 = 31;
    x->mask_not_31 = ~UINT64_C(31);
    x->mask_upper = 0x1fffe;
    x->mask_sign = BIT(63);
    x->components = b->vm->components;
    x->table_supervisor = b->spaces.supervisor.entry;
    x->table_ac = spaces_table(&b->spaces, VIEW_AC)->entry;
    x->table_user = spaces_table(&b->spaces, VIEW_USER)->entry;
    binary_syscall_init(x);
    binary_iret_init(x);
    for (unsigned i = 0; i < ARRAY_LEN(x->mask_string); i++)
        x->mask_string[i] = 2 * MEMORY_PAGE_SIZE - (1u << i);
    x->leave = binary_leave;
    x->call_out = binary_call_out;
    b->fpu = FPU_IN_STATE;
    b->came_from = UINT32_MAX;
    b->call_rip = b->retry_rip = UINT64_MAX;
}

static bool vcpu_create(struct engine_vcpu **out, struct engine_vm *vm, unsigned index,
                        const struct x86_host *host, struct error *err)
{
    struct binary_vcpu *b = calloc(1, sizeof *b);
    *out = NULL;
    if (!b)
        return error_set(err, "engine binary: no memory for vCPU %u", index);
    b->vm = vm->attached;
    b->spaces.fd = -1;
    b->single = aligned_alloc(_Alignof(struct single), SINGLES * sizeof *b->single);
    if (!b->single || !binary_statistics_init(b) || !make_tables(b, err) ||
        !emulate_vcpu_init(b->v, vm, index, host, err) || !bounce_create(b, err)) {
        free_vcpu(b);
        return false;
    }
    memset(b->single, 0, SINGLES * sizeof *b->single);
    fill_context(b);
    binary_take_over_host(b);
    b->v->cpu.tlb_flushed = tlb_flushed;
    b->v->cpu.tlb_switched = tlb_switched;
    b->v->cpu.tlb_flushed_page = tlb_flushed_page;
    b->v->attached = b;

    *out = b->v;
    return true;
}

static void vcpu_destroy(struct engine_vcpu *v)
{
    struct binary_vcpu *b = binary_of(v);
    emulate_vcpu_fini(v);
    free_vcpu(b);
}

static enum engine_exit run(struct engine_vcpu *v, uint64_t insns_limit)
{
    return binary_run(binary_of(v), insns_limit, false);
}

static enum engine_exit run_block(struct engine_vcpu *v, uint64_t insns_limit)
{
    return binary_run(binary_of(v), insns_limit, true);
}

/* ---- state ---- */

static void get_state(struct engine_vcpu *v, struct x86_state *to)
{
    engine_emulate.get_state(v, to);
    binary_fpu_copy(binary_of(v), to);
}

static void set_state(struct engine_vcpu *v, const struct x86_state *from)
{
    struct binary_vcpu *b = binary_of(v);
    b->fpu = FPU_IN_STATE;
    b->tsc_known = false;
    engine_emulate.set_state(v, from);
    binary_forget_all(b);
}

static unsigned host_code(struct engine_vcpu *v, uint8_t *to, unsigned size, uint64_t *at)
{
    const struct code *code = &binary_of(v)->vm->code;
    uint32_t n = binary_known_block(binary_of(v));
    if (!n)
        return 0;
    const struct translation *t = &code->block[n];
    const uint8_t *begin = code_run(code, t->code + t->near);
    unsigned all = t->size - t->near;
    *at = (uintptr_t)begin;
    bytes_copy(to, begin, all < size ? all : size);
    return all;
}

/* ---- from other threads ---- */

static void interrupt(struct engine_vcpu *v, bool level)
{
    engine_emulate.interrupt(v, level);
    if (level)
        binary_kick(binary_of(v));
}

static void nmi(struct engine_vcpu *v)
{
    engine_emulate.nmi(v);
    binary_kick(binary_of(v));
}

static void stop(struct engine_vcpu *v)
{
    engine_emulate.stop(v);
    binary_kick(binary_of(v));
}

static void park(struct engine_vcpu *v)
{
    engine_emulate.park(v);
}

static bool unpark(struct engine_vcpu *v, bool wait)
{
    return engine_emulate.unpark(v, wait);
}

/* ---- figures ---- */

static uint64_t instructions(const struct engine_vcpu *v)
{
    return engine_emulate.instructions(v);
}

static void stats(const struct engine_vcpu *v, struct engine_stats *out)
{
    engine_emulate.stats(v, out);
    binary_statistics(binary_of(v), out);
}

static const char *failure(const struct engine_vcpu *v)
{
    return binary_of(v)->failure;
}

/* A flush of the TLBs forgets the tables as well. */
static void watch_writes(struct engine_vm *vm)
{
    engine_emulate.watch_writes(vm);
}

static void watch_page(struct engine_vm *vm, uint64_t gpa)
{
    engine_emulate.watch_page(vm, gpa);
    watch(vm, gpa);
}

static void remapped(struct engine_vm *vm)
{
    engine_emulate.remapped(vm);
}

const struct engine engine_binary = {
    .name = "binary",
    .summary = "guest code run as it is, but for what must be rewritten",
    .host_model = true,
    .usable = usable,
    .vm_create = vm_create,
    .tune = tune,
    .vm_destroy = vm_destroy,
    .vcpu_create = vcpu_create,
    .vcpu_destroy = vcpu_destroy,
    .run = run,
    .run_block = run_block,
    .interrupt = interrupt,
    .nmi = nmi,
    .stop = stop,
    .park = park,
    .unpark = unpark,
    .get_state = get_state,
    .set_state = set_state,
    .host_code = host_code,
    .instructions = instructions,
    .stats = stats,
    .failure = failure,
    .watch_writes = watch_writes,
    .watch_page = watch_page,
    .remapped = remapped,
};
