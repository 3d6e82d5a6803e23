#include "container/filter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bits.h"

static bool read_action(const struct field *in, const char *name, bool needed,
                        uint32_t fallback_errno, bool has_errno, uint32_t *out, struct error *err)
{
    static const struct {
        const char *name;
        uint32_t action;
    } actions[] = {
        {"SCMP_ACT_ALLOW", SCMP_ACT_ALLOW},
        {"SCMP_ACT_ERRNO", SCMP_ACT_ERRNO(0)},
        {"SCMP_ACT_KILL", SCMP_ACT_KILL},
        {"SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS},
        {"SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD},
        {"SCMP_ACT_LOG", SCMP_ACT_LOG},
        {"SCMP_ACT_NOTIFY", SCMP_ACT_NOTIFY},
        {"SCMP_ACT_TRACE", SCMP_ACT_TRACE(0)},
        {"SCMP_ACT_TRAP", SCMP_ACT_TRAP},
    };
    struct field f;
    if (!field_member(in, name, FIELD_STRING, &f, err))
        return false;
    if (!f.json)
        return !needed || field_error(&f, err, "missing; add one");
    uint32_t value = has_errno ? fallback_errno : EPERM;
    for (size_t i = 0; i < ARRAY_LEN(actions); i++)
        if (strcmp(actions[i].name, json_string_value(f.json)) == 0) {
            *out = actions[i].action;
            if (*out == SCMP_ACT_ERRNO(0) || *out == SCMP_ACT_TRACE(0))
                *out |= value;
            return true;
        }
    return field_error(&f, err, "%.40s is no action; correct it", json_string_value(f.json));
}

static bool add_architectures(scmp_filter_ctx ctx, const struct field *at, struct error *err)
{
    struct field list, item;
    if (!field_member(at, "architectures", FIELD_ARRAY, &list, err))
        return false;
    for (size_t i = 0; i < field_count(&list); i++) {
        char name[32];
        size_t k;
        if (!field_item(&list, i, FIELD_STRING, &item, err))
            return false;
        const char *text = json_string_value(item.json);
        if (strncmp(text, "SCMP_ARCH_", 10) != 0)
            return field_error(&item, err, "is no architecture; correct it");
        for (k = 0; text[10 + k] && k < sizeof name - 1; k++)
            name[k] = text[10 + k] >= 'A' && text[10 + k] <= 'Z' ? (char)(text[10 + k] + 32)
                                                                 : text[10 + k];
        name[k] = 0;
        uint32_t arch = seccomp_arch_resolve_name(name);
        if (!arch)
            return field_error(&item, err, "is no architecture; correct it");
        int failed = seccomp_arch_add(ctx, arch);
        if (failed && failed != -EEXIST)
            return field_error(&item, err, "can't be filtered for: %s", strerror(-failed));
    }
    return true;
}

static bool read_argument(const struct field *at, struct scmp_arg_cmp *out, struct error *err)
{
    static const struct {
        const char *name;
        enum scmp_compare compare;
    } operators[] = {
        {"SCMP_CMP_NE", SCMP_CMP_NE},
        {"SCMP_CMP_LT", SCMP_CMP_LT},
        {"SCMP_CMP_LE", SCMP_CMP_LE},
        {"SCMP_CMP_EQ", SCMP_CMP_EQ},
        {"SCMP_CMP_GE", SCMP_CMP_GE},
        {"SCMP_CMP_GT", SCMP_CMP_GT},
        {"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ},
    };
    uint64_t index = 0, value = 0, second = 0;
    const char *operator= "";
    if (!field_unsigned(at, "index", 5, &index, NULL, err) ||
        !field_unsigned(at, "value", UINT64_MAX, &value, NULL, err) ||
        !field_unsigned(at, "valueTwo", UINT64_MAX, &second, NULL, err) ||
        !field_string(at, "op", &operator, err))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(operators); i++)
        if (strcmp(operators[i].name, operator) == 0) {
            *out = (struct scmp_arg_cmp){(unsigned)index, operators[i].compare, value, second};
            return true;
        }
    return field_error(at, err, "op %.40s is unknown; correct it", operator);
}

/* Conditions on one argument are alternatives, on several they must all hold: the library takes one
 * condition for each argument and rule, so repeated ones become rules of their own. */
static int add_rule(scmp_filter_ctx ctx, uint32_t action, int number,
                    const struct scmp_arg_cmp *args, unsigned count)
{
    unsigned seen = 0;
    bool repeated = false;
    for (unsigned i = 0; i < count; i++) {
        repeated |= seen & 1u << args[i].arg;
        seen |= 1u << args[i].arg;
    }
    int failed = 0;
    if (!repeated)
        failed = seccomp_rule_add_array(ctx, action, number, count, args);
    for (unsigned i = 0; repeated && i < count && !failed; i++)
        failed = seccomp_rule_add_array(ctx, action, number, 1, &args[i]);
    return failed == -EEXIST ? 0 : failed;
}

static bool add_syscalls(scmp_filter_ctx ctx, uint32_t action, const struct field *at,
                         struct error *err)
{
    struct field names, args, item;
    struct scmp_arg_cmp compares[6];
    if (!field_member(at, "names", FIELD_ARRAY, &names, err) ||
        !field_member(at, "args", FIELD_ARRAY, &args, err))
        return false;
    size_t count = field_count(&args);
    if (count > ARRAY_LEN(compares))
        return field_error(&args, err, "has more than 6 conditions; a call has 6 arguments");
    for (size_t i = 0; i < count; i++)
        if (!field_item(&args, i, FIELD_OBJECT, &item, err) ||
            !read_argument(&item, &compares[i], err))
            return false;
    if (!field_count(&names))
        return field_error(&names, err, "is empty; name a system call");
    for (size_t i = 0; i < field_count(&names); i++) {
        if (!field_item(&names, i, FIELD_STRING, &item, err))
            return false;
        /* A call that this host has never heard of can't be made here. */
        int number = seccomp_syscall_resolve_name(json_string_value(item.json));
        int failed = number == __NR_SCMP_ERROR
                         ? 0
                         : add_rule(ctx, action, number, compares, (unsigned)count);
        if (failed)
            return field_error(&item, err, "can't be filtered: %s", strerror(-failed));
    }
    return true;
}

static bool add_rules(scmp_filter_ctx ctx, const struct field *at, uint32_t standard,
                      struct seccomp_filter *out, struct error *err)
{
    struct field list, item;
    if (!field_member(at, "syscalls", FIELD_ARRAY, &list, err))
        return false;
    for (size_t i = 0; i < field_count(&list); i++) {
        uint64_t number = 0;
        uint32_t action = 0;
        bool has_number;
        if (!field_item(&list, i, FIELD_OBJECT, &item, err) ||
            !field_unsigned(&item, "errnoRet", 4095, &number, &has_number, err) ||
            !read_action(&item, "action", true, (uint32_t)number, has_number, &action, err))
            return false;
        out->notifies |= action == SCMP_ACT_NOTIFY;
        /* The library refuses rules that say what holds anyhow. */
        if (action != standard && !add_syscalls(ctx, action, &item, err))
            return false;
    }
    return true;
}

static bool read_flags(const struct field *at, struct seccomp_filter *out, struct error *err)
{
    static const struct field_word flags[] = {
        {"SECCOMP_FILTER_FLAG_TSYNC", 0}, /* there is only one thread */
        {"SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG},
        {"SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW},
        {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", 1u << 5},
    };
    uint64_t value = 0;
    if (!field_flags(at, "flags", flags, ARRAY_LEN(flags), "correct it", &value, err))
        return false;
    out->flags |= (unsigned)value;
    return true;
}

/* The library writes the program to a file only. */
static bool take_program(scmp_filter_ctx ctx, struct arena *arena, struct seccomp_filter *out,
                         struct error *err)
{
    int fd = memfd_create("seccomp", MFD_CLOEXEC);
    int failed = fd < 0 ? -errno : seccomp_export_bpf(ctx, fd);
    off_t size = failed ? 0 : lseek(fd, 0, SEEK_END);
    void *program = failed ? NULL : arena_array(arena, 1, (size_t)size, err);
    bool ok = program && pread(fd, program, (size_t)size, 0) == size;
    if (fd >= 0)
        close(fd);
    if (!ok)
        return error_set(err, "config.json: linux.seccomp: no filter comes of it: %s",
                         strerror(-failed));
    out->program.len = (unsigned short)((size_t)size / sizeof(struct sock_filter));
    out->program.filter = program;
    out->present = true;
    return true;
}

bool seccomp_compile(const struct field *at, struct arena *arena, struct seccomp_filter *out,
                     struct error *err)
{
    memset(out, 0, sizeof *out);
    if (!at->json)
        return true;
    uint64_t number = 0;
    uint32_t standard = 0;
    bool has_number;
    if (!field_unsigned(at, "defaultErrnoRet", 4095, &number, &has_number, err) ||
        !read_action(at, "defaultAction", true, (uint32_t)number, has_number, &standard, err) ||
        !field_string(at, "listenerPath", &out->listener_path, err) ||
        !field_string(at, "listenerMetadata", &out->listener_metadata, err) ||
        !read_flags(at, out, err))
        return false;
    scmp_filter_ctx ctx = seccomp_init(standard);
    if (!ctx)
        return field_error(at, err, "defaultAction can't be used; choose another");
    /* Decide by a binary search over the calls instead of one by one. */
    seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    bool ok = add_architectures(ctx, at, err) && add_rules(ctx, at, standard, out, err) &&
              take_program(ctx, arena, out, err);
    seccomp_release(ctx);
    if (ok && out->notifies && !out->listener_path)
        return field_error(at, err, "SCMP_ACT_NOTIFY needs a listenerPath; add one");
    return ok;
}

bool seccomp_install(const struct seccomp_filter *f, int *listener, struct error *err)
{
    *listener = -1;
    if (!f->present)
        return true;
    unsigned flags = f->flags | (f->notifies ? SECCOMP_FILTER_FLAG_NEW_LISTENER : 0);
    long n = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &f->program);
    if (n < 0)
        return error_errno(err, "config.json: linux.seccomp: the kernel refuses the filter");
    if (f->notifies)
        *listener = (int)n;
    return true;
}

bool seccomp_send_listener(int socket, int listener, const char *state, struct error *err)
{
    struct iovec part = {(char *)(uintptr_t)state, strlen(state)};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.header = {.cmsg_len = CMSG_LEN(sizeof listener),
                            .cmsg_level = SOL_SOCKET,
                            .cmsg_type = SCM_RIGHTS}};
    memcpy(CMSG_DATA(&control.header), &listener, sizeof listener);
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    return sendmsg(socket, &message, MSG_NOSIGNAL) >= 0 ||
           error_errno(err, "config.json: linux.seccomp.listenerPath: can't be sent to");
}
