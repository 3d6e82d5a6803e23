/* Configurations: what is read, and that what is wrong is named. */
#include <sched.h>
#include <stdlib.h>

#include "container/cgroup.h"
#include "container/config.h"
#include "container/scope.h"
#include "test.h"

#define NAMESPACES "\"linux\":{\"namespaces\":[{\"type\":\"mount\"},{\"type\":\"pid\"}]"
#define PROCESS    "\"process\":{\"cwd\":\"/\",\"args\":[\"true\"]"
#define ROOT       "\"ociVersion\":\"1.1.0\",\"root\":{\"path\":\"rootfs\"},"

static struct config config;
static struct error err;

static bool load(const char *text)
{
    err = (struct error){0};
    config_free(&config);
    json_t *json = field_parse(text, strlen(text), "config.json", &err);
    return json && config_take(&config, json, &err);
}

static bool refused(const char *text, const char *why)
{
    bool ok = !load(text) && strstr(err.text, why) && !strchr(err.text, '\n');
    if (!ok)
        printf("# %s: %s\n", text, err.text);
    config_free(&config);
    return ok;
}

TEST(the_least_configuration)
{
    CHECK(load("{" ROOT PROCESS "}," NAMESPACES "}}"));
    CHECK_EQ(config_new_namespaces(&config), CLONE_NEWNS | CLONE_NEWPID);
    CHECK_EQ(config.process.arg_count, 1);
    CHECK(config.process.args[1] == NULL);
    config_free(&config);
}

TEST(errors_name_the_field)
{
    CHECK(refused("{}", "config.json: ociVersion: missing"));
    CHECK(refused("[]", "config.json: not a JSON object"));
    CHECK(refused("{\"a\":1,}", "line 1"));
    CHECK(refused("{\"a\":1,\"a\":2}", "duplicate"));
    CHECK(refused("{" ROOT NAMESPACES "}}", "config.json: process: missing"));
    CHECK(refused("{" ROOT PROCESS ",\"user\":{\"uid\":-1}}," NAMESPACES "}}",
                  "process.user.uid: is negative"));
    CHECK(refused("{" ROOT PROCESS ",\"env\":[\"A=b\",[]]}," NAMESPACES "}}",
                  "process.env[1]: must be a string"));
    CHECK(refused("{" ROOT PROCESS "}," NAMESPACES ",\"uidMappings\":[{\"containerID\":0}]}}",
                  "linux.uidMappings[0]: is empty"));
    CHECK(refused("{" ROOT PROCESS "},\"linux\":{}}", "linux.namespaces: has no mount namespace"));
}

TEST(an_unlimited_limit)
{
    CHECK(load("{" ROOT PROCESS ",\"rlimits\":[{\"type\":\"RLIMIT_CORE\",\"soft\":7,"
               "\"hard\":18446744073709551615}]}," NAMESPACES "}}"));
    CHECK_EQ(config.process.rlimits[0].limit.rlim_max, RLIM_INFINITY);
    CHECK_EQ(config.process.rlimits[0].limit.rlim_cur, 7);
    config_free(&config);
}

/* The value that a plan writes to a file; NULL: none. */
static const char *planned(const struct cgroup_plan *plan, const char *file)
{
    for (size_t i = 0; i < plan->count; i++)
        if (strcmp(plan->settings[i].file, file) == 0)
            return plan->settings[i].value;
    return NULL;
}

TEST(resources_for_both_versions)
{
    static const char text[] =
        "{" ROOT PROCESS "}," NAMESPACES ",\"resources\":{\"memory\":{\"limit\":1000,"
        "\"swap\":3000},\"cpu\":{\"shares\":1024,\"quota\":5000},\"pids\":{\"limit\":-1}}}}";
    struct cgroup_plan plan;
    CHECK(load(text));
    CHECK(cgroup_plan_read(&config.resources, false, &config.arena, &plan, &err));
    CHECK(strcmp(planned(&plan, "memory.memsw.limit_in_bytes"), "3000") == 0);
    CHECK(strcmp(planned(&plan, "cpu.shares"), "1024") == 0);
    CHECK(planned(&plan, "memory.max") == NULL);
    CHECK(cgroup_plan_read(&config.resources, true, &config.arena, &plan, &err));
    CHECK(strcmp(planned(&plan, "memory.max"), "1000") == 0);
    CHECK(strcmp(planned(&plan, "memory.swap.max"), "2000") == 0);
    CHECK(strcmp(planned(&plan, "cpu.weight"), "39") == 0);
    CHECK(strcmp(planned(&plan, "cpu.max"), "5000 100000") == 0);
    CHECK(strcmp(planned(&plan, "pids.max"), "max") == 0);
    config_free(&config);
}

TEST(where_groups_are)
{
    struct cgroups g = {.count = 1};
    strcpy(g.list[0].mount, "/cg");
    g.list[0].own = strdup("/own");
    CHECK(cgroups_choose(&g, NULL, "id", &err));
    CHECK(strcmp(g.list[0].folder, "/cg/own/id") == 0);
    free(g.list[0].folder);
    g.list[0].folder = NULL;
    CHECK(!cgroups_choose(&g, "/../id", "id", &err));
    cgroups_free(&g);
}

TEST(systemd_s_way_of_naming_groups)
{
    struct scope s;
    CHECK(scope_parse(&s, "a-b.slice:doppel:id", "id", false, &err));
    CHECK(strcmp(s.slice, "a-b.slice") == 0 && strcmp(s.unit, "doppel-id.scope") == 0);
    CHECK(scope_parse(&s, NULL, "id", true, &err));
    CHECK(strcmp(s.slice, "user.slice") == 0 && strcmp(s.unit, "doppel-id.scope") == 0);
    CHECK(scope_parse(&s, "::id", "other", false, &err));
    CHECK(strcmp(s.slice, "system.slice") == 0 && strcmp(s.unit, "id.scope") == 0);
    CHECK(!scope_parse(&s, "slice", "id", false, &err));
    CHECK(!scope_parse(&s, "a.service:b:c", "id", false, &err));
    CHECK(!scope_parse(&s, "a.slice:b:c/d", "id", false, &err));
    CHECK(!scope_parse(&s, "a.slice:b:", "id", false, &err));
}

TESTS({"the_least_configuration", the_least_configuration},
      {"errors_name_the_field", errors_name_the_field}, {"an_unlimited_limit", an_unlimited_limit},
      {"resources_for_both_versions", resources_for_both_versions},
      {"where_groups_are", where_groups_are},
      {"systemd_s_way_of_naming_groups", systemd_s_way_of_naming_groups})
