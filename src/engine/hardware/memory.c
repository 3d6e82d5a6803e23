/*
 * The guest's memory in KVM's slots, and what KVM is to be told of changes that it can't see.
 *
 * KVM's log says which pages its vCPUs have written. Two want to know: who tracks dirty pages
 * (MEMORY_CLEAN), and `emulate`, which must not keep decoded code (MEMORY_CODE) of bytes that are
 * no longer there. A page stays in the log, and can be written without another fault, until it is
 * cleared from it (KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2); that is done to pages that someone watches.
 */
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "engine/hardware/hardware.h"

/* Where no guest has RAM and no device is (docs/machine.md): for four pages that older Intel
 * processors need for real mode, and below them for a page that comes and goes. */
enum { TSS_ADDRESS = 0xfeffd000u, PASSING_SLOT = MEMORY_REGIONS, RESET_SLOT };
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

static uint64_t words_of(const struct memory_region *r)
{
    return (r->size / MEMORY_PAGE_SIZE + 63) / 64;
}

static bool make_bitmaps(struct engine_vm *vm)
{
    uint64_t words = 1;
    free(vm->log.page);
    free(vm->log.watched);
    for (unsigned i = 0; i < vm->memory->region_count; i++)
        words = words > words_of(&vm->memory->region[i]) ? words : words_of(&vm->memory->region[i]);
    vm->log.page = calloc(words, sizeof *vm->log.page);
    vm->log.watched = calloc(words, sizeof *vm->log.watched);
    return vm->log.page && vm->log.watched;
}

bool hardware_map_memory(struct engine_vm *vm, struct error *err)
{
    for (; vm->slots > 0; vm->slots--)
        set_slot(vm, vm->slots - 1, NULL);
    if (vm->log.on && !make_bitmaps(vm))
        return error_errno(err, "engine hardware: KVM's log of written pages");
    return set_slots(vm, err);
}

/* ---- the log ---- */

static bool log_writes(struct engine_vm *vm, struct error *err)
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

static bool clear_watched(struct engine_vm *vm, unsigned slot)
{
    struct kvm_clear_dirty_log clear = {
        .slot = slot,
        .num_pages = (uint32_t)(vm->memory->region[slot].size / MEMORY_PAGE_SIZE),
        .dirty_bitmap = vm->log.watched,
    };
    return ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &clear) == 0;
}

static void tell_watchers(struct engine_vm *vm, unsigned slot, bool written)
{
    struct memory *m = vm->memory;
    const struct memory_region *r = &m->region[slot];
    for (uint64_t i = 0; i < words_of(r); i++)
        for (uint64_t left = vm->log.watched[i]; left; left &= left - 1) {
            uint64_t page = i * 64 + (unsigned)__builtin_ctzll(left);
            uint64_t gpa = r->gpa + page * MEMORY_PAGE_SIZE;
            if (written)
                memory_written(m, gpa, &r->flags[page]);
            if ((atomic_load(&r->flags[page]) & MEMORY_CODE) && m->code_write)
                m->code_write(m->code_ctx, gpa, MEMORY_PAGE_SIZE);
        }
}

/* The log's pages that are watched leave it first: what is written from then on is in it again.
 * written: whether they were, since they were marked. */
static bool read_log(struct engine_vm *vm, bool written)
{
    bool ok = true;
    pthread_mutex_lock(&vm->lock);
    for (unsigned slot = 0; slot < vm->slots; slot++)
        if (find_watched(vm, slot)) {
            ok &= clear_watched(vm, slot);
            tell_watchers(vm, slot, written);
        }
    pthread_mutex_unlock(&vm->lock);
    return ok;
}

bool hardware_take_writes(struct engine_vm *vm)
{
    return !vm->log.on || read_log(vm, true);
}

/* Pages that were written before they were marked are in the log still. */
bool hardware_watch_writes(struct engine_vm *vm, struct error *err)
{
    return log_writes(vm, err) &&
           (read_log(vm, false) || error_errno(err, "engine hardware: KVM_CLEAR_DIRTY_LOG"));
}

/* ---- translations ---- */

/* KVM lets go of all that it has made of the guest's page tables when any slot goes. */
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
bool hardware_drop_translations(struct engine_vm *vm, uint64_t cr3)
{
    pthread_mutex_lock(&vm->lock);
    bool stale = atomic_exchange(&vm->stale, false);
    if (vm->tables && !tables_still_right(vm->tables, cr3))
        stale = true;
    bool ok = !stale || forget_translations(vm);
    pthread_mutex_unlock(&vm->lock);
    return ok;
}

/* ---- the reset vector ---- */

/* There is no firmware, but a page of RAM below 1 MiB at whose end a jump asks for a reset
 * (docs/machine.md). INIT leads a boot processor of KVM's to the end of the first 4 GiB, and from
 * here on to that page. All else reads as where nothing is. */
bool hardware_map_reset_vector(struct engine_vm *vm, struct error *err)
{
    static const uint8_t far_jump[] = {0xea, 0xf0, 0xff, 0x00, 0xf0}; /* F000:FFF0 */
    struct kvm_userspace_memory_region k = {
        .slot = RESET_SLOT,
        .guest_phys_addr = UINT64_C(0xfffff000),
        .memory_size = MEMORY_PAGE_SIZE,
        .flags = KVM_MEM_READONLY,
    };
    void *page =
        mmap(NULL, MEMORY_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return error_errno(err, "engine hardware: reset vector");
    vm->reset_vector = page;
    memset(page, 0xff, MEMORY_PAGE_SIZE);
    memcpy(vm->reset_vector + 0xff0, far_jump, sizeof far_jump);
    k.userspace_addr = (uintptr_t)page;
    return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &k) == 0 ||
           error_errno(err, "engine hardware: reset vector");
}

/* ---- beginning and end ---- */

bool hardware_memory_init(struct engine_vm *vm, struct error *err)
{
    uint64_t identity_map = IDENTITY_MAP_ADDRESS;
    if (ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) != 0 ||
        ioctl(vm->fd, KVM_SET_TSS_ADDR, (unsigned long)TSS_ADDRESS) != 0)
        return error_errno(err, "engine hardware: KVM_SET_TSS_ADDR");
    if (vm->facts.users_only && vm->vcpus == 1)
        vm->tables = tables_new(vm->memory);
    if (vm->facts.users_only && !log_writes(vm, err))
        return false;
    return hardware_map_memory(vm, err);
}

void hardware_memory_fini(struct engine_vm *vm)
{
    if (vm->reset_vector)
        munmap(vm->reset_vector, MEMORY_PAGE_SIZE);
    tables_free(vm->tables);
    free(vm->log.page);
    free(vm->log.watched);
}
