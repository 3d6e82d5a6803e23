/*
 * The guest's memory in KVM's slots, and what KVM is to be told of changes that it can't see.
 *
 * KVM's log says which pages its vCPUs have written. Two want to know: who tracks dirty pages
 * (MEMORY_CLEAN), and `emulate`, which must not keep decoded code (MEMORY_CODE) of bytes that are
 * no longer there. A page that is in the log may be written without notice until it is cleared from
 * the log (KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2); so only pages that someone watches are cleared from
 * it, and looking costs no write another fault.
 */
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "engine/hardware/hardware.h"

/* Where no guest has RAM and no device is (docs/machine.md): for four pages that older Intel
 * processors need for real mode, and below them for a page that comes and goes. */
enum { TSS_ADDRESS = 0xfeffd000u, PASSING_SLOT = MEMORY_REGIONS };
#define IDENTITY_MAP_ADDRESS UINT64_C(0xfeffc000)
#define PASSING_ADDRESS      UINT64_C(0xfeffb000)

/* ---- slots ---- */

static bool set_slot(struct engine_vm *vm, unsigned slot, const struct memory_region *r)
{
    struct kvm_userspace_memory_region k = {.slot = slot};
    if (r) {
        k.guest_phys_addr = r->gpa;
        k.memory_size = r->size;
        k.userspace_addr = (uintptr_t)r->hva;
        k.flags = vm->log.on ? KVM_MEM_LOG_DIRTY_PAGES : 0;
    }
    return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &k) == 0;
}

static bool set_slots(struct engine_vm *vm, struct error *err)
{
    const struct memory *m = vm->memory;
    for (vm->slots = 0; vm->slots < m->region_count; vm->slots++)
        if (!set_slot(vm, vm->slots, &m->region[vm->slots]))
            return error_errno(err, "engine hardware: KVM takes no memory of %llu MiB",
                               (unsigned long long)m->region[vm->slots].size >> 20);
    return true;
}

bool hardware_map_memory(struct engine_vm *vm, struct error *err)
{
    for (; vm->slots > 0; vm->slots--)
        set_slot(vm, vm->slots - 1, NULL);
    return set_slots(vm, err);
}

bool hardware_memory_init(struct engine_vm *vm, struct error *err)
{
    uint64_t identity_map = IDENTITY_MAP_ADDRESS;
    if (ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) != 0 ||
        ioctl(vm->fd, KVM_SET_TSS_ADDR, (unsigned long)TSS_ADDRESS) != 0)
        return error_errno(err, "engine hardware: KVM_SET_TSS_ADDR");
    if (vm->facts.users_only && !hardware_log_writes(vm, err))
        return false;
    return hardware_map_memory(vm, err);
}

void hardware_memory_fini(struct engine_vm *vm)
{
    free(vm->log.page);
    free(vm->log.watched);
}

/* ---- the log ---- */

static uint64_t words_of(const struct memory_region *r)
{
    return (r->size / MEMORY_PAGE_SIZE + 63) / 64;
}

static bool make_bitmaps(struct engine_vm *vm)
{
    uint64_t words = 0;
    for (unsigned i = 0; i < vm->memory->region_count; i++)
        words = words > words_of(&vm->memory->region[i]) ? words : words_of(&vm->memory->region[i]);
    vm->log.page = calloc(words, sizeof *vm->log.page);
    vm->log.watched = calloc(words, sizeof *vm->log.watched);
    return vm->log.page && vm->log.watched;
}

bool hardware_log_writes(struct engine_vm *vm, struct error *err)
{
    struct kvm_enable_cap manual = {
        .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
        .args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE,
    };
    if (vm->log.on)
        return true;
    if (!make_bitmaps(vm) || ioctl(vm->fd, KVM_ENABLE_CAP, &manual) != 0)
        return error_errno(err, "engine hardware: KVM's log of written pages");
    vm->log.on = true;
    return vm->slots == 0 || set_slots(vm, err);
}

/* What is done with a page that KVM has written and someone watches. */
typedef void written_fn(struct engine_vm *vm, uint64_t gpa, _Atomic uint8_t *flags);

static void tell_watchers(struct engine_vm *vm, uint64_t gpa, _Atomic uint8_t *flags)
{
    struct memory *m = vm->memory;
    memory_written(m, gpa, flags);
    if ((atomic_load(flags) & MEMORY_CODE) && m->code_write)
        m->code_write(m->code_ctx, gpa, MEMORY_PAGE_SIZE);
}

/* log.watched := the pages of the log that someone watches. Returns whether there is one. */
static bool find_watched(struct engine_vm *vm, unsigned slot)
{
    const struct memory_region *r = &vm->memory->region[slot];
    struct kvm_dirty_log get = {.slot = slot, .dirty_bitmap = vm->log.page};
    bool any = false;
    if (ioctl(vm->fd, KVM_GET_DIRTY_LOG, &get) != 0)
        return false;
    for (uint64_t i = 0; i < words_of(r); i++) {
        uint64_t watched = 0;
        for (uint64_t left = vm->log.page[i]; left; left &= left - 1) {
            unsigned bit = (unsigned)__builtin_ctzll(left);
            uint8_t flags = atomic_load_explicit(&r->flags[i * 64 + bit], memory_order_relaxed);
            if (flags & (MEMORY_CODE | MEMORY_CLEAN))
                watched |= UINT64_C(1) << bit;
        }
        vm->log.watched[i] = watched;
        any |= watched != 0;
    }
    return any;
}

static void each_watched(struct engine_vm *vm, unsigned slot, written_fn *fn)
{
    const struct memory_region *r = &vm->memory->region[slot];
    for (uint64_t i = 0; i < words_of(r); i++)
        for (uint64_t left = vm->log.watched[i]; left; left &= left - 1) {
            uint64_t page = i * 64 + (unsigned)__builtin_ctzll(left);
            fn(vm, r->gpa + page * MEMORY_PAGE_SIZE, &r->flags[page]);
        }
}

void hardware_take_writes(struct engine_vm *vm)
{
    if (!vm->log.on)
        return;
    pthread_mutex_lock(&vm->lock);
    for (unsigned slot = 0; slot < vm->slots; slot++)
        if (find_watched(vm, slot))
            each_watched(vm, slot, tell_watchers);
    pthread_mutex_unlock(&vm->lock);
}

static void drop_code(struct engine_vm *vm, uint64_t gpa, _Atomic uint8_t *flags)
{
    struct memory *m = vm->memory;
    if ((atomic_load(flags) & MEMORY_CODE) && m->code_write)
        m->code_write(m->code_ctx, gpa, MEMORY_PAGE_SIZE);
}

/* Code is dropped only when writes to it are in the log again: another vCPU may have written since
 * it was decoded. */
static bool watch_writes(struct engine_vm *vm)
{
    bool ok = true;
    for (unsigned slot = 0; slot < vm->slots; slot++) {
        uint64_t pages = vm->memory->region[slot].size / MEMORY_PAGE_SIZE;
        struct kvm_clear_dirty_log clear = {
            .slot = slot, .num_pages = (uint32_t)pages, .dirty_bitmap = vm->log.watched};
        if (!find_watched(vm, slot))
            continue;
        ok &= ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &clear) == 0;
        each_watched(vm, slot, drop_code);
    }
    return ok;
}

/* ---- translations ---- */

/* A KVM without the processor's nested paging keeps what it has made of the guest's page tables
 * until it sees the guest change them, and it does not see what `emulate` writes. It lets go of all
 * of it when any slot goes. */
static bool forget_translations(struct engine_vm *vm)
{
    struct kvm_userspace_memory_region k = {
        .slot = PASSING_SLOT,
        .guest_phys_addr = PASSING_ADDRESS,
        .memory_size = MEMORY_PAGE_SIZE,
        .userspace_addr = (uintptr_t)vm->memory->region[0].hva,
        .flags = KVM_MEM_READONLY,
    };
    if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &k) != 0)
        return false;
    k.memory_size = 0;
    return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &k) == 0;
}

/* A vCPU that finds nothing to do here finds it done: it waits for who does it. */
bool hardware_tell_kvm(struct engine_vm *vm)
{
    pthread_mutex_lock(&vm->lock);
    bool ok = (!atomic_exchange(&vm->stale, false) || forget_translations(vm)) &&
              (!atomic_exchange(&vm->unwatched, false) || watch_writes(vm));
    pthread_mutex_unlock(&vm->lock);
    return ok;
}
