/*
 * The engine `hardware`: the VM and its memory, vCPUs, their state in and out, and what other
 * threads ask of them.
 */
#include "engine/hardware/hardware.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "x86/access.h"
#include "x86/flags.h"

static bool usable(char *why, size_t size)
{
    struct kvm k;
    struct error err = {0};
    bool ok = kvm_open(&k, &err);
    snprintf(why, size, "%s", ok ? "KVM is there" : err.text);
    if (ok)
        kvm_close(&k);
    return ok;
}

/* ---- the virtual machine ---- */

/* Of whom KVM does not tell gets #UD: users, if it is not to, and all guests of the guest's. */
bool hardware_tell_failures(struct engine_vm *vm, bool users_too, struct error *err)
{
    struct kvm_enable_cap k = {
        .cap = KVM_CAP_EXIT_ON_EMULATION_FAILURE,
        .args[0] = users_too,
    };
    return ioctl(vm->kvm.fd, KVM_CHECK_EXTENSION, KVM_CAP_EXIT_ON_EMULATION_FAILURE) <= 0 ||
           ioctl(vm->fd, KVM_ENABLE_CAP, &k) == 0 ||
           error_errno(err, "engine hardware: KVM_CAP_EXIT_ON_EMULATION_FAILURE");
}

static bool set_up(struct engine_vm *vm, struct error *err)
{
    return hardware_tell_failures(vm, true, err) && hardware_filter_msrs(vm, err) &&
           hardware_memory_init(vm, err);
}

static void vm_destroy(struct engine_vm *vm)
{
    if (vm->assist)
        engine_emulate.vm_destroy(vm->assist);
    hardware_memory_fini(vm);
    pthread_mutex_destroy(&vm->lock);
    if (vm->fd >= 0)
        close(vm->fd);
    kvm_close(&vm->kvm);
    free(vm);
}

static bool make_vm(struct engine_vm *vm, struct error *err)
{
    if (!kvm_open(&vm->kvm, err))
        return false;
    do
        vm->fd = ioctl(vm->kvm.fd, KVM_CREATE_VM, 0);
    while (vm->fd < 0 && errno == EINTR);
    if (vm->fd < 0)
        return error_errno(err, "engine hardware: KVM_CREATE_VM");
    if (!kvm_find_out(&vm->kvm, &vm->facts))
        return error_set(err, "engine hardware: KVM does not run even a guest of a few bytes");
    hardware_find_components(vm);
    return set_up(vm, err) &&
           engine_emulate.vm_create(&vm->assist, vm->memory, vm->model, vm->vcpus, err);
}

static bool vm_create(struct engine_vm **out, struct memory *memory, const struct x86_model *model,
                      unsigned vcpus, struct error *err)
{
    *out = NULL;
    if (vcpus > HARDWARE_VCPUS)
        return error_set(err, "engine hardware: %u vCPUs: at most %d", vcpus, HARDWARE_VCPUS);
    struct engine_vm *vm = calloc(1, sizeof *vm);
    if (!vm)
        return error_errno(err, "engine hardware");
    vm->kvm.fd = vm->fd = -1;
    vm->memory = memory;
    vm->model = model;
    vm->vcpus = vcpus;
    pthread_mutex_init(&vm->lock, NULL);
    if (!make_vm(vm, err)) {
        vm_destroy(vm);
        return false;
    }
    *out = vm;
    return true;
}

static const char *untold(const struct engine_vm *vm)
{
    return offer_name(&vm->offer);
}

/* ---- a vCPU ---- */

static void vcpu_destroy(struct engine_vcpu *v)
{
    v->vm->created = 0;
    if (v->assist)
        engine_emulate.vcpu_destroy(v->assist);
    if (v->run)
        munmap(v->run, v->vm->kvm.run_size);
    if (v->fd >= 0)
        close(v->fd);
    free(v->xsave);
    free(v);
}

/* What x86/msr.c calls on a processor that runs no code here. */
static void nothing_cached(struct x86_cpu *c)
{
    (void)c;
}

static void init_cpu(struct engine_vcpu *v, unsigned index, const struct x86_host *host)
{
    struct x86_cpu *c = &v->cpu;
    struct engine_vm *vm = v->vm;
    c->index = index;
    c->host = *host;
    c->memory = vm->memory;
    c->model = vm->model;
    c->peers = vm->cpus;
    c->peer_count = vm->vcpus;
    c->engine = v;
    c->mappings_changed = nothing_cached;
    x86_tlb_init(c);
    x86_state_reset(&c->s, index == 0, false);
    x86_set_rflags(c, c->s.rflags);
    x86_update_mode(c);
}

static bool make_vcpu(struct engine_vcpu *v, unsigned index, const struct x86_host *host,
                      struct error *err)
{
    struct engine_vm *vm = v->vm;
    size_t xsave = vm->kvm.xsave_size ? vm->kvm.xsave_size : sizeof(struct kvm_xsave);
    v->xsave = calloc(1, xsave);
    v->fd = ioctl(vm->fd, KVM_CREATE_VCPU, (unsigned long)index);
    if (!v->xsave || v->fd < 0)
        return error_errno(err, "engine hardware: vCPU %u", index);
    void *run = mmap(NULL, vm->kvm.run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
    if (run == MAP_FAILED)
        return error_errno(err, "engine hardware: vCPU %u", index);
    v->run = run;
    init_cpu(v, index, host);
    return hardware_set_cpuid(v, err) &&
           engine_emulate.vcpu_create(&v->assist, vm->assist, index, host, err);
}

static bool vcpu_create(struct engine_vcpu **out, struct engine_vm *vm, unsigned index,
                        const struct x86_host *host, struct error *err)
{
    *out = NULL;
    struct engine_vcpu *v = aligned_alloc(64, (sizeof *v + 63) & ~(size_t)63);
    if (!v)
        return error_errno(err, "engine hardware: vCPU %u", index);
    memset(v, 0, sizeof *v);
    v->vm = vm;
    v->fd = -1;
    if (!make_vcpu(v, index, host, err)) {
        vcpu_destroy(v);
        return false;
    }
    vm->vcpu[index] = v;
    vm->cpus[index] = &v->cpu;
    vm->created++;
    *out = v;
    return true;
}

static void get_state(struct engine_vcpu *v, struct x86_state *to)
{
    uint32_t activity = v->cpu.s.activity;
    if (v->vm->facts.users_only)
        hardware_take_over(v);
    else
        hardware_fetch(v);
    if (!v->vm->keeps_apics)
        v->cpu.s.activity = activity;
    /* An NMI that was asked for and not given to KVM yet is part of the state. */
    if (atomic_fetch_and(&v->request, ~(uint32_t)REQUEST_NMI) & REQUEST_NMI) {
        v->cpu.s.nmi_pending = true;
        v->loaded = v->lent = false;
    }
    *to = v->cpu.s;
}

static void set_state(struct engine_vcpu *v, const struct x86_state *from)
{
    v->cpu.s = *from;
    v->cpu.s.gpr[X86_GPR_ZERO] = v->cpu.s.gpr[X86_GPR_BLOCK] = 0;
    v->loaded = v->incomplete = v->lent = v->users = v->from_user = false;
    v->same_sregs = v->stepping = false;
    v->begins = true;
    atomic_store(&v->vm->stale, true);
}

/* ---- from other threads ---- */

/* The emulating vCPU comes back for a look as well. */
static void ask(struct engine_vcpu *v, uint32_t request)
{
    if (v->vm->facts.users_only && request != REQUEST_INTR)
        engine_emulate.stop(v->assist);
    if (!(atomic_fetch_or(&v->request, request) & request))
        hardware_kick(v);
}

static void interrupt(struct engine_vcpu *v, bool level)
{
    if (v->vm->facts.users_only)
        engine_emulate.interrupt(v->assist, level);
    if (level)
        ask(v, REQUEST_INTR);
    else
        atomic_fetch_and(&v->request, ~(uint32_t)REQUEST_INTR);
}

static void nmi(struct engine_vcpu *v)
{
    ask(v, REQUEST_NMI);
}

static void stop(struct engine_vcpu *v)
{
    ask(v, REQUEST_STOP);
}

/* ---- waiting in a host callback: only the emulating vCPU has a gate ---- */

static void park(struct engine_vcpu *v)
{
    if (v->assisting)
        engine_emulate.park(v->assist);
}

static bool unpark(struct engine_vcpu *v, bool wait)
{
    return !v->assisting || engine_emulate.unpark(v->assist, wait);
}

/* ---- figures ---- */

static uint64_t instructions(const struct engine_vcpu *v)
{
    return engine_emulate.instructions(v->assist);
}

static void stats(const struct engine_vcpu *v, struct engine_stats *out)
{
    engine_emulate.stats(v->assist, out);
    out->interrupts += v->interrupts;
    out->halts += v->halts;
    out->exits = v->exits;
    out->assists = v->assists;
    out->stretches = v->stretches;
}

static const char *failure(const struct engine_vcpu *v)
{
    return v->broken ? v->error.text : NULL;
}

static void fail_all(struct engine_vm *vm, const struct error *err)
{
    for (unsigned i = 0; i < vm->created; i++) {
        vm->vcpu[i]->error = *err;
        vm->vcpu[i]->broken = true;
    }
}

static void watch_writes(struct engine_vm *vm)
{
    struct error err;
    if (!hardware_watch_writes(vm, &err))
        fail_all(vm, &err);
    engine_emulate.watch_writes(vm->assist);
}

static void remapped(struct engine_vm *vm)
{
    struct error err;
    if (!hardware_map_memory(vm, &err))
        fail_all(vm, &err);
    engine_emulate.remapped(vm->assist);
}

const struct engine engine_hardware = {
    .name = "hardware",
    .summary = "the processor's own virtualization, through KVM",
    .uncounted = true,
    .host_model = true,
    .usable = usable,
    .advisable = kvm_measure,
    .limit = hardware_limit,
    .untold = untold,
    .vm_create = vm_create,
    .tune = hardware_tune,
    .vm_destroy = vm_destroy,
    .vcpu_create = vcpu_create,
    .vcpu_destroy = vcpu_destroy,
    .run = hardware_run,
    .interrupt = interrupt,
    .nmi = nmi,
    .stop = stop,
    .park = park,
    .unpark = unpark,
    .get_state = get_state,
    .set_state = set_state,
    .instructions = instructions,
    .stats = stats,
    .failure = failure,
    .apics = &hardware_apics,
    .signals = &hardware_signals,
    .watch_writes = watch_writes,
    .remapped = remapped,
};
