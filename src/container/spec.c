/* The configuration that `spec` writes: a shell in a root of its own. */
#include <stdio.h>
#include <unistd.h>

#include "container/container.h"

static const char template[] =
    "{\"ociVersion\":\"1.1.0\","
    "\"process\":{\"terminal\":true,\"user\":{\"uid\":0,\"gid\":0},\"args\":[\"sh\"],"
    "\"env\":[\"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/"
    "bin\",\"TERM=xterm\"],"
    "\"cwd\":\"/\","
    "\"capabilities\":{"
    "\"bounding\":[\"CAP_AUDIT_WRITE\",\"CAP_KILL\",\"CAP_NET_BIND_SERVICE\"],"
    "\"effective\":[\"CAP_AUDIT_WRITE\",\"CAP_KILL\",\"CAP_NET_BIND_SERVICE\"],"
    "\"permitted\":[\"CAP_AUDIT_WRITE\",\"CAP_KILL\",\"CAP_NET_BIND_SERVICE\"]},"
    "\"rlimits\":[{\"type\":\"RLIMIT_NOFILE\",\"hard\":1024,\"soft\":1024}],"
    "\"noNewPrivileges\":true},"
    "\"root\":{\"path\":\"rootfs\",\"readonly\":true},"
    "\"hostname\":\"doppel\","
    "\"mounts\":["
    "{\"destination\":\"/proc\",\"type\":\"proc\",\"source\":\"proc\"},"
    "{\"destination\":\"/dev\",\"type\":\"tmpfs\",\"source\":\"tmpfs\","
    "\"options\":[\"nosuid\",\"strictatime\",\"mode=755\",\"size=65536k\"]},"
    "{\"destination\":\"/dev/pts\",\"type\":\"devpts\",\"source\":\"devpts\","
    "\"options\":[\"nosuid\",\"noexec\",\"newinstance\",\"ptmxmode=0666\",\"mode=0620\"]},"
    "{\"destination\":\"/dev/shm\",\"type\":\"tmpfs\",\"source\":\"shm\","
    "\"options\":[\"nosuid\",\"noexec\",\"nodev\",\"mode=1777\",\"size=65536k\"]},"
    "{\"destination\":\"/dev/mqueue\",\"type\":\"mqueue\",\"source\":\"mqueue\","
    "\"options\":[\"nosuid\",\"noexec\",\"nodev\"]},"
    "{\"destination\":\"/sys\",\"type\":\"sysfs\",\"source\":\"sysfs\","
    "\"options\":[\"nosuid\",\"noexec\",\"nodev\",\"ro\"]},"
    "{\"destination\":\"/sys/fs/cgroup\",\"type\":\"cgroup\",\"source\":\"cgroup\","
    "\"options\":[\"nosuid\",\"noexec\",\"nodev\",\"relatime\",\"ro\"]}],"
    "\"linux\":{"
    "\"resources\":{\"devices\":[{\"allow\":false,\"access\":\"rwm\"}]},"
    "\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"network\"},{\"type\":\"ipc\"},{\"type\":"
    "\"uts\"},"
    "{\"type\":\"mount\"},{\"type\":\"cgroup\"}],"
    "\"maskedPaths\":[\"/proc/acpi\",\"/proc/asound\",\"/proc/kcore\",\"/proc/keys\","
    "\"/proc/latency_stats\",\"/proc/timer_list\",\"/proc/timer_stats\",\"/proc/sched_debug\","
    "\"/sys/firmware\",\"/proc/scsi\"],"
    "\"readonlyPaths\":[\"/proc/bus\",\"/proc/fs\",\"/proc/irq\",\"/proc/sys\","
    "\"/proc/sysrq-trigger\"]}}";

static void drop_mount(json_t *mounts, const char *destination)
{
    for (size_t i = json_array_size(mounts); i-- > 0;) {
        json_t *mount = json_array_get(mounts, i);
        const char *to = json_string_value(json_object_get(mount, "destination"));
        for (size_t k = 0; to && destination[k] == to[k]; k++)
            if (!to[k]) {
                json_array_remove(mounts, i);
                break;
            }
    }
}

/* A user of no privilege maps himself to root, and has no cgroups or sysfs of his own. */
static void make_rootless(json_t *json)
{
    json_t *linux_part = json_object_get(json, "linux"), *mounts = json_object_get(json, "mounts");
    json_t *namespaces = json_object_get(linux_part, "namespaces");
    json_object_del(linux_part, "resources");
    json_array_remove(namespaces, 1); /* of the network */
    json_array_append_new(namespaces, json_pack("{s:s}", "type", "user"));
    json_object_set_new(
        linux_part, "uidMappings",
        json_pack("[{s:i,s:i,s:i}]", "containerID", 0, "hostID", (int)geteuid(), "size", 1));
    json_object_set_new(
        linux_part, "gidMappings",
        json_pack("[{s:i,s:i,s:i}]", "containerID", 0, "hostID", (int)getegid(), "size", 1));
    drop_mount(mounts, "/sys");
    drop_mount(mounts, "/sys/fs/cgroup");
    json_array_append_new(mounts, json_pack("{s:s,s:s,s:s,s:[s,s,s,s,s]}", "destination", "/sys",
                                            "type", "none", "source", "/sys", "options", "rbind",
                                            "nosuid", "noexec", "nodev", "ro"));
}

json_t *container_spec(bool rootless)
{
    json_t *json = json_loadb(template, sizeof template - 1, 0, NULL);
    if (json && rootless)
        make_rootless(json);
    return json;
}
