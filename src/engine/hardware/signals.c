/*
 * Eventfds in place of exits and calls (Documentation/virt/kvm/api.rst, KVM_IOEVENTFD and
 * KVM_IRQFD): a vCPU's write to a doorbell signals one in the kernel and the guest goes on; one
 * that is signalled has the kernel send a message.
 *
 * Only where KVM keeps the local APICs: else it has nobody to send messages to, and may not be
 * who runs the guest's system at all.
 */
#include <sys/ioctl.h>

#include "engine/hardware/hardware.h"

static bool set_doorbell(struct engine_vm *vm, uint64_t gpa, unsigned size, int fd, uint32_t flags)
{
    struct kvm_ioeventfd k = {.addr = gpa, .len = size, .fd = fd, .flags = flags};
    return ioctl(vm->fd, KVM_IOEVENTFD, &k) == 0;
}

static bool add_doorbell(struct engine_vm *vm, uint64_t gpa, unsigned size, int fd)
{
    return vm->keeps_apics && set_doorbell(vm, gpa, size, fd, 0);
}

static void remove_doorbell(struct engine_vm *vm, uint64_t gpa, unsigned size, int fd)
{
    set_doorbell(vm, gpa, size, fd, KVM_IOEVENTFD_FLAG_DEASSIGN);
}

/* ---- messages: each has a place in KVM's table of interrupts, behind the I/O APIC's pins ---- */

static bool set_message(struct engine_vm *vm, unsigned i, int fd, uint32_t flags)
{
    struct kvm_irqfd k = {.fd = (uint32_t)fd, .gsi = ENGINE_PINS + i, .flags = flags};
    return ioctl(vm->fd, KVM_IRQFD, &k) == 0;
}

static void free_place(struct engine_vm *vm, unsigned i)
{
    vm->message[i] = (struct hardware_message){0};
    hardware_set_routes(vm);
}

static bool add_message(struct engine_vm *vm, const struct engine_msi *m, int fd)
{
    unsigned i = 0;
    while (i < ENGINE_MESSAGES && vm->message[i].used)
        i++;
    if (!vm->keeps_apics || i == ENGINE_MESSAGES)
        return false;
    vm->message[i] = (struct hardware_message){true, fd, *m};
    if (hardware_set_routes(vm) && set_message(vm, i, fd, 0))
        return true;
    free_place(vm, i);
    return false;
}

/* KVM may put a message off to a thread of its own; taking the eventfd away waits for that. */
static void remove_message(struct engine_vm *vm, int fd)
{
    for (unsigned i = 0; i < ENGINE_MESSAGES; i++)
        if (vm->message[i].used && vm->message[i].fd == fd) {
            set_message(vm, i, fd, KVM_IRQFD_FLAG_DEASSIGN);
            free_place(vm, i);
        }
}

const struct engine_signals hardware_signals = {
    .add_doorbell = add_doorbell,
    .remove_doorbell = remove_doorbell,
    .add_message = add_message,
    .remove_message = remove_message,
};
