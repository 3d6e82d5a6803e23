/* Labels of security modules, written into a /proc of ours: few hosts have both modules. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "container/identity.h"
#include "test.h"

static char base[64];

static int make_proc(void)
{
    strcpy(base, "/tmp/doppel-label-XXXXXX");
    CHECK(mkdtemp(base) != NULL);
    int proc = open(base, O_PATH | O_DIRECTORY);
    mkdirat(proc, "self", 0755);
    mkdirat(proc, "self/attr", 0755);
    mkdirat(proc, "self/attr/apparmor", 0755);
    return proc;
}

static void put(int proc, const char *name, const char *text)
{
    int fd = openat(proc, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

static const char *get(int proc, const char *name)
{
    static char text[128];
    int fd = openat(proc, name, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n < 0 ? 0 : n] = 0;
    return text;
}

static void remove_proc(int proc)
{
    char command[96];
    close(proc);
    snprintf(command, sizeof command, "rm -rf %s", base);
    CHECK_EQ(system(command), 0);
}

TEST(a_profile_of_apparmor)
{
    struct error err = {0};
    struct process_config p = {.apparmor_profile = "mine"};
    int proc = make_proc(), label;
    put(proc, "self/attr/apparmor/exec", "");
    CHECK(!identity_open_label(&p, proc, &label, &err)); /* it is compiled in, but off */
    CHECK(strstr(err.text, "process.apparmorProfile: AppArmor is not on") != NULL);
    put(proc, "self/attr/apparmor/current", "unconfined");
    CHECK(identity_open_label(&p, proc, &label, &err) && label >= 0);
    CHECK(identity_write_label(&p, label, &err));
    close(label);
    CHECK(strcmp(get(proc, "self/attr/apparmor/exec"), "exec mine") == 0);
    p.apparmor_profile = "unconfined";
    CHECK(identity_open_label(&p, proc, &label, &err) && label < 0);
    remove_proc(proc);
}

TEST(a_label_of_selinux)
{
    struct error err = {0};
    struct process_config p = {.selinux_label = "system_u:system_r:container_t:s0"};
    int proc = make_proc(), label;
    put(proc, "self/attr/exec", "");
    put(proc, "filesystems", "nodev\tsysfs\nnodev\ttmpfs\n");
    CHECK(!identity_open_label(&p, proc, &label, &err));
    CHECK(strstr(err.text, "process.selinuxLabel: SELinux is not on") != NULL);
    put(proc, "filesystems", "nodev\tsysfs\nnodev\tselinuxfs\n");
    CHECK(identity_open_label(&p, proc, &label, &err) && label >= 0);
    CHECK(identity_write_label(&p, label, &err));
    close(label);
    CHECK(strcmp(get(proc, "self/attr/exec"), p.selinux_label) == 0);
    remove_proc(proc);
}

TESTS({"a_profile_of_apparmor", a_profile_of_apparmor}, {"a_label_of_selinux", a_label_of_selinux})
