/*
 * Device rules where there is no devices controller: version 2 asks a program attached to the
 * container's folder. The program is made here, rule by rule: the last that matches decides.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "container/cgroup.h"

/* Instructions of the longest rule, of the beginning and of the end. */
enum { PER_RULE = 9, BEGINNING = 6, END = 2 };

struct program {
    struct bpf_insn *code;
    size_t length;
};

static void emit(struct program *p, uint8_t code, int dst, int src, int16_t offset, int32_t value)
{
    p->code[p->length++] = (struct bpf_insn){.code = code,
                                             .dst_reg = (uint8_t)dst & 15,
                                             .src_reg = (uint8_t)src & 15,
                                             .off = offset,
                                             .imm = value};
}

static void emit_return(struct program *p, bool allow)
{
    emit(p, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, allow);
    emit(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

/* r2: the kind of device, r3: what is wanted of it, r4: major, r5: minor. */
static void emit_beginning(struct program *p)
{
    const uint8_t load = BPF_LDX | BPF_W | BPF_MEM;
    emit(p, load, BPF_REG_2, BPF_REG_1, offsetof(struct bpf_cgroup_dev_ctx, access_type), 0);
    emit(p, BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_3, BPF_REG_2, 0, 0);
    emit(p, BPF_ALU64 | BPF_AND | BPF_K, BPF_REG_2, 0, 0, 0xffff);
    emit(p, BPF_ALU64 | BPF_RSH | BPF_K, BPF_REG_3, 0, 0, 16);
    emit(p, load, BPF_REG_4, BPF_REG_1, offsetof(struct bpf_cgroup_dev_ctx, major), 0);
    emit(p, load, BPF_REG_5, BPF_REG_1, offsetof(struct bpf_cgroup_dev_ctx, minor), 0);
}

/* Jumps to the next rule where this one does not match; false: it always does. */
static bool emit_rule(struct program *p, const struct device_rule *d)
{
    int access = (d->read ? BPF_DEVCG_ACC_READ : 0) | (d->write ? BPF_DEVCG_ACC_WRITE : 0) |
                 (d->mknod ? BPF_DEVCG_ACC_MKNOD : 0);
    size_t jumps[4], count = 0;
    if (d->type != 'a') {
        jumps[count++] = p->length;
        emit(p, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_2, 0, 0,
             d->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
    }
    if (access != 7) {
        /* To be allowed, all that is wanted must be in the rule; to be denied, any of it. */
        emit(p, BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_1, BPF_REG_3, 0, 0);
        emit(p, BPF_ALU64 | BPF_AND | BPF_K, BPF_REG_1, 0, 0, d->allow ? 7 & ~access : access);
        jumps[count++] = p->length;
        emit(p, BPF_JMP | (d->allow ? BPF_JNE : BPF_JEQ) | BPF_K, BPF_REG_1, 0, 0, 0);
    }
    const int64_t numbers[2] = {d->major, d->minor};
    for (int i = 0; i < 2; i++)
        if (numbers[i] >= 0) {
            jumps[count++] = p->length;
            emit(p, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_4 + i, 0, 0, (int32_t)numbers[i]);
        }
    emit_return(p, d->allow);
    for (size_t i = 0; i < count; i++)
        p->code[jumps[i]].off = (int16_t)(p->length - jumps[i] - 1);
    return count > 0;
}

static int load(const struct program *p)
{
    union bpf_attr attr = {
        .prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
        .insns = (uint64_t)(uintptr_t)p->code,
        .insn_cnt = (uint32_t)p->length,
        .license = (uint64_t)(uintptr_t) "MIT",
    };
    return (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof attr);
}

static bool attach(int folder, int program)
{
    union bpf_attr attr = {
        .target_fd = (uint32_t)folder,
        .attach_bpf_fd = (uint32_t)program,
        .attach_type = BPF_CGROUP_DEVICE,
        .attach_flags = BPF_F_ALLOW_MULTI,
    };
    return syscall(SYS_bpf, BPF_PROG_ATTACH, &attr, sizeof attr) == 0;
}

bool cgroup_devices_apply(const struct device_rule *rules, size_t count, const struct cgroups *g,
                          struct error *err)
{
    const struct cgroup_hierarchy *h = cgroups_unified(g);
    if (!h)
        return error_set(err, "linux.resources.devices: no cgroup to hold the rules; leave them "
                              "out");
    struct program p = {.code = calloc(BEGINNING + count * PER_RULE + END, sizeof *p.code)};
    if (!p.code)
        return error_set(err, "linux.resources.devices: no memory; free some");
    emit_beginning(&p);
    /* Behind a rule that always matches nothing may stand: the kernel refuses what is never run. */
    bool more = true;
    for (size_t i = count; i-- > 0 && more;)
        more = emit_rule(&p, &rules[i]);
    if (more)
        emit_return(&p, true);
    int program = load(&p), folder = open(h->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = program >= 0 && folder >= 0 && attach(folder, program);
    if (!ok)
        error_errno(err, "linux.resources.devices: the rules can't be attached to %s", h->folder);
    if (program >= 0)
        close(program);
    if (folder >= 0)
        close(folder);
    free(p.code);
    return ok;
}
