#include "container/front/users.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "container/image/tree.h"

/* More than any real one; a hostile one is not read further. */
enum { USERS_FILE_MAX = 4 << 20, FIELDS = 7 };

struct field {
    const char *at;
    size_t size;
};

/* The next line of a colon-separated file, as fields; NULL behind the last line. */
static const char *next_line(const char *text, struct field fields[FIELDS], unsigned *count)
{
    if (!text || !*text)
        return NULL;
    *count = 0;
    while (*count < FIELDS) {
        size_t n = strcspn(text, ":\n");
        fields[(*count)++] = (struct field){text, n};
        text += n;
        if (*text != ':')
            break;
        text++;
    }
    text += strcspn(text, "\n");
    return *text ? text + 1 : text;
}

static bool field_is(const struct field *f, const char *s, size_t n)
{
    return f->size == n && memcmp(f->at, s, n) == 0;
}

/* A whole field as an id. 2^32 - 1 is "no change" to the kernel, never an id. */
static bool id_parse(const char *s, size_t n, uint32_t *id)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9' || (v = v * 10 + (uint64_t)(s[i] - '0')) >= UINT32_MAX)
            return false;
    }
    *id = (uint32_t)v;
    return n != 0;
}

/* The line of /etc/passwd with that name, or with that number. */
static bool find_user(const char *passwd, const char *who, size_t n, struct user *u,
                      struct field *name)
{
    struct field f[FIELDS];
    unsigned count;
    uint32_t number = 0, uid, gid;
    bool numeric = id_parse(who, n, &number);
    while ((passwd = next_line(passwd, f, &count))) {
        if (count < 4 || !id_parse(f[2].at, f[2].size, &uid) || !id_parse(f[3].at, f[3].size, &gid))
            continue;
        if (!(numeric ? uid == number : field_is(&f[0], who, n)))
            continue;
        u->uid = uid;
        u->gid = gid;
        if (count >= 6 && f[5].size && f[5].size < sizeof u->home) {
            memcpy(u->home, f[5].at, f[5].size);
            u->home[f[5].size] = 0;
        }
        *name = f[0];
        return true;
    }
    u->uid = number;
    u->gid = 0;
    return numeric;
}

static bool find_group(const char *group, const char *who, size_t n, uint32_t *gid)
{
    struct field f[FIELDS];
    unsigned count;
    if (id_parse(who, n, gid))
        return true;
    while ((group = next_line(group, f, &count)))
        if (count >= 3 && field_is(&f[0], who, n) && id_parse(f[2].at, f[2].size, gid))
            return true;
    return false;
}

static bool is_member(const struct field *members, const struct field *name)
{
    for (const char *p = members->at, *end = p + members->size; p < end;) {
        const char *comma = memchr(p, ',', (size_t)(end - p));
        struct field one = {p, (size_t)((comma ? comma : end) - p)};
        if (field_is(&one, name->at, name->size))
            return true;
        p += one.size + 1;
    }
    return false;
}

/* The groups whose line in /etc/group lists the user. */
static void find_memberships(const char *group, const struct field *name, struct user *u)
{
    struct field f[FIELDS];
    unsigned count;
    uint32_t gid;
    while (name->size && (group = next_line(group, f, &count)))
        if (count >= 4 && u->group_count < USER_GROUPS_MAX && is_member(&f[3], name) &&
            id_parse(f[2].at, f[2].size, &gid))
            u->groups[u->group_count++] = gid;
}

bool user_find_in(const char *passwd, const char *group, const char *wanted, struct user *u,
                  struct error *err)
{
    struct field name = {0};
    *u = (struct user){.home = "/"};
    if (!wanted || !*wanted)
        wanted = "0";
    size_t n = strcspn(wanted, ":");
    if (!find_user(passwd, wanted, n, u, &name))
        return error_set(err,
                         "--user %.*s: the container's /etc/passwd has no such user; use its "
                         "number",
                         (int)(n < 80 ? n : 80), wanted);
    if (wanted[n] == ':') {
        if (!find_group(group, wanted + n + 1, strlen(wanted + n + 1), &u->gid))
            return error_set(err,
                             "--user %.80s: the container's /etc/group has no such group; use "
                             "its number",
                             wanted);
        return true;
    }
    find_memberships(group, &name, u);
    return true;
}

static char *read_optional(int root, const char *path)
{
    struct error quiet = {0};
    size_t size;
    char *text = tree_read(root, path, USERS_FILE_MAX, &size, path, &quiet);
    return text;
}

bool user_find(int root, const char *wanted, struct user *u, struct error *err)
{
    char *passwd = read_optional(root, "/etc/passwd");
    char *group = read_optional(root, "/etc/group");
    bool ok = user_find_in(passwd, group, wanted, u, err);
    free(passwd);
    free(group);
    return ok;
}
