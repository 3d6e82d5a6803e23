#include "container/config.h"

#include <sched.h>
#include <string.h>

#include "base/bits.h"

/* A field whose chain outlives the stack: mounts and resources are looked at again later. */
static struct field *keep(struct config *c, const struct field *at, struct error *err)
{
    struct field *kept = arena_array(&c->arena, 1, sizeof *kept, err);
    if (kept)
        *kept = *at;
    return kept;
}

static bool read_mount(struct config *c, struct mount_config *m, const struct field *at,
                       struct error *err)
{
    m->at = *at;
    if (!field_string(at, "destination", &m->destination, err) ||
        !field_string(at, "type", &m->type, err) || !field_string(at, "source", &m->source, err) ||
        !field_strings(at, "options", &c->arena, &m->options, &m->option_count, err) ||
        !config_id_maps(at, "uidMappings", "gidMappings", &c->arena, &m->maps, err))
        return false;
    if (!m->destination || !*m->destination)
        return field_error(at, err, "has no destination; add one");
    return true;
}

static bool read_mounts(struct config *c, struct error *err)
{
    struct field mounts, item;
    if (!field_member(&c->top, "mounts", FIELD_ARRAY, &mounts, err))
        return false;
    struct field *kept = keep(c, &mounts, err);
    c->mount_count = field_count(&mounts);
    c->mounts = arena_array(&c->arena, c->mount_count, sizeof *c->mounts, err);
    if (!kept || !c->mounts)
        return false;
    for (size_t i = 0; i < c->mount_count; i++)
        if (!field_item(kept, i, FIELD_OBJECT, &item, err) ||
            !read_mount(c, &c->mounts[i], &item, err))
            return false;
    return true;
}

static bool read_hook(struct config *c, struct hook_config *h, const struct field *at,
                      struct error *err)
{
    uint64_t timeout = 0;
    if (!field_string(at, "path", &h->path, err) ||
        !field_strings(at, "args", &c->arena, &h->args, &h->arg_count, err) ||
        !field_strings(at, "env", &c->arena, &h->env, &h->env_count, err) ||
        !field_unsigned(at, "timeout", 1000000, &timeout, NULL, err))
        return false;
    if (!h->path || h->path[0] != '/')
        return field_error(at, err, "has no absolute path; add one");
    h->timeout = (unsigned)timeout;
    return true;
}

static bool read_hooks(struct config *c, struct error *err)
{
    static const char *const names[HOOK_KINDS] = {
        "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"};
    struct field hooks, list, item;
    if (!field_member(&c->top, "hooks", FIELD_OBJECT, &hooks, err))
        return false;
    for (int kind = 0; kind < HOOK_KINDS; kind++) {
        struct hook_list *to = &c->hooks[kind];
        if (!field_member(&hooks, names[kind], FIELD_ARRAY, &list, err))
            return false;
        to->count = field_count(&list);
        to->hooks = arena_array(&c->arena, to->count, sizeof *to->hooks, err);
        if (!to->hooks)
            return false;
        for (size_t i = 0; i < to->count; i++)
            if (!field_item(&list, i, FIELD_OBJECT, &item, err) ||
                !read_hook(c, &to->hooks[i], &item, err))
                return false;
    }
    return true;
}

static bool read_version(struct config *c, struct error *err)
{
    struct field f;
    if (!field_member(&c->top, "ociVersion", FIELD_STRING, &f, err))
        return false;
    if (!f.json)
        return field_error(&f, err, "missing; write the specification's version, as \"1.1.0\"");
    c->version = json_string_value(f.json);
    if (strncmp(c->version, "1.", 2) != 0)
        return field_error(&f, err, "%.40s is not a version 1; only those are known", c->version);
    return true;
}

static bool read_root(struct config *c, struct error *err)
{
    struct field root;
    if (!field_member(&c->top, "root", FIELD_OBJECT, &root, err) ||
        !field_string(&root, "path", &c->rootfs, err) ||
        !field_boolean(&root, "readonly", &c->rootfs_readonly, err))
        return false;
    if (!root.json)
        return field_error(&root, err, "missing; say where the root file system is");
    if (!c->rootfs || !*c->rootfs)
        return field_error(&root, err, "has no path; say where the root file system is");
    return true;
}

static bool read_annotations(struct config *c, struct error *err)
{
    struct field all;
    const char *name;
    json_t *value;
    if (!field_member(&c->top, "annotations", FIELD_OBJECT, &all, err))
        return false;
    c->annotations = all.json;
    json_object_foreach(all.json, name, value)
    {
        struct field one = {.json = value, .up = &all, .name = name};
        const char *text;
        if (!field_as_string(&one, &text, err))
            return false;
    }
    return true;
}

static bool read_process(struct config *c, struct error *err)
{
    struct field process;
    if (!field_member(&c->top, "process", FIELD_OBJECT, &process, err))
        return false;
    if (!process.json)
        return field_error(&process, err, "missing; say what is to be run");
    return config_process(&c->process, &process, &c->arena, err);
}

bool config_take(struct config *c, json_t *json, struct error *err)
{
    memset(c, 0, sizeof *c);
    c->json = json;
    c->top = (struct field){.json = json, .name = "config.json"};
    if (!read_version(c, err) || !read_root(c, err) || !read_process(c, err) ||
        !read_mounts(c, err) || !read_hooks(c, err) ||
        !field_string(&c->top, "hostname", &c->hostname, err) ||
        !field_string(&c->top, "domainname", &c->domainname, err) || !read_annotations(c, err) ||
        !config_linux(c, err))
        return false;
    struct field at;
    if (c->hostname && *c->hostname && !config_namespace(c, CLONE_NEWUTS))
        return field_member(&c->top, "hostname", FIELD_STRING, &at, err) &&
               field_error(&at, err, "needs a uts namespace; add one to linux.namespaces");
    return true;
}

bool config_load(struct config *c, const char *path, struct error *err)
{
    memset(c, 0, sizeof *c);
    json_t *json = field_load(path, "config.json", err);
    return json && config_take(c, json, err);
}

void config_free(struct config *c)
{
    arena_free(&c->arena);
    json_decref(c->json);
    memset(c, 0, sizeof *c);
}

const struct namespace_config *config_namespace(const struct config *c, int flag)
{
    for (size_t i = 0; i < c->namespace_count; i++)
        if (c->namespaces[i].flag == flag)
            return &c->namespaces[i];
    return NULL;
}

int config_new_namespaces(const struct config *c)
{
    int flags = 0;
    for (size_t i = 0; i < c->namespace_count; i++)
        if (!c->namespaces[i].path)
            flags |= c->namespaces[i].flag;
    return flags;
}
