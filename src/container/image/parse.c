#include "container/image/parse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool bad(const struct parse *p, const char *field, const char *what)
{
    return error_set(p->err, "%.150s: its %s's %.100s %s; the image is damaged", p->image,
                     p->document, field, what);
}

/* ------------------------------------------------------------------------------------------- *
 * Fields
 * ------------------------------------------------------------------------------------------- */

static const char *text_of(json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

/* An array that has to be there. */
static bool take_array(const struct parse *p, json_t *object, const char *key, size_t most,
                       json_t **array)
{
    *array = json_object_get(object, key);
    if (!json_is_array(*array))
        return bad(p, key, "is missing or not a list");
    if (json_array_size(*array) > most)
        return bad(p, key, "is too long a list");
    return true;
}

/* A list of strings that may be missing or null. */
static bool take_strings(const struct parse *p, json_t *object, const char *key, struct strings *to)
{
    json_t *array = json_object_get(object, key), *item;
    size_t n;
    if (!array || json_is_null(array))
        return true;
    if (!json_is_array(array))
        return bad(p, key, "is not a list");
    json_array_foreach(array, n, item)
    {
        if (!json_is_string(item) || json_string_length(item) != strlen(json_string_value(item)))
            return bad(p, key, "has an item that is not a text");
        if (!strings_add(to, json_string_value(item), p->err))
            return false;
    }
    return true;
}

/* A string that may be missing, null or empty. */
static bool take_text(const struct parse *p, json_t *object, const char *key, char **to)
{
    json_t *text = json_object_get(object, key);
    if (!text || json_is_null(text))
        return true;
    if (!json_is_string(text) || json_string_length(text) != strlen(json_string_value(text)))
        return bad(p, key, "is not a text");
    if (!json_string_length(text))
        return true;
    *to = strdup(json_string_value(text));
    return *to || error_set(p->err, "%.150s: no memory left for it", p->image);
}

static bool take_descriptor(const struct parse *p, json_t *json, const char *field,
                            struct parse_descriptor *d)
{
    const char *digest = text_of(json, "digest");
    json_t *size = json_object_get(json, "size");
    if (!digest)
        return bad(p, field, "has no digest");
    if (!json_is_integer(size) || json_integer_value(size) < 0)
        return bad(p, field, "has no size");
    d->size = (uint64_t)json_integer_value(size);
    return digest_parse(&d->digest, digest, p->err);
}

/* ------------------------------------------------------------------------------------------- *
 * Indexes
 * ------------------------------------------------------------------------------------------- */

/* "name:tag" matches itself, its tag alone, and itself behind a registry's name. */
static bool name_matches(const char *name, const char *reference)
{
    size_t n = name ? strlen(name) : 0, m = strlen(reference);
    if (!n || n < m || strcmp(name + n - m, reference) != 0)
        return false;
    return n == m || name[n - m - 1] == '/' || name[n - m - 1] == ':';
}

static const char *name_of(json_t *descriptor)
{
    json_t *annotations = json_object_get(descriptor, "annotations");
    const char *name = text_of(annotations, "io.containerd.image.name");
    return name ? name : text_of(annotations, "org.opencontainers.image.ref.name");
}

static bool is_wanted(json_t *descriptor, const char *reference, const char *architecture)
{
    const char *digest = text_of(descriptor, "digest");
    json_t *platform = json_object_get(descriptor, "platform");
    const char *os = text_of(platform, "os"), *cpu = text_of(platform, "architecture");
    if (reference) {
        json_t *annotations = json_object_get(descriptor, "annotations");
        return name_matches(name_of(descriptor), reference) ||
               name_matches(text_of(annotations, "org.opencontainers.image.ref.name"), reference) ||
               (digest && name_matches(digest, reference));
    }
    return (!os || strcmp(os, "linux") == 0) &&
           (!cpu || !architecture || strcmp(cpu, architecture) == 0);
}

static bool several(const struct parse *p, json_t *manifests)
{
    char names[256] = "";
    size_t n, used = 0;
    json_t *one;
    json_array_foreach(manifests, n, one)
    {
        const char *name = name_of(one);
        int more = snprintf(names + used, sizeof names - used, "%s%.80s", used ? ", " : "",
                            name ? name : "(no name)");
        if (more < 0 || (size_t)more >= sizeof names - used)
            break;
        used += (size_t)more;
    }
    return error_set(p->err, "%.150s: it holds several images (%s); name one with --image",
                     p->image, names);
}

bool parse_index(const struct parse *p, json_t *index, const char *reference,
                 const char *architecture, struct parse_descriptor *found)
{
    json_t *manifests, *one, *match = NULL;
    size_t n;
    unsigned matches = 0;
    if (!take_array(p, index, "manifests", 4096, &manifests))
        return false;
    json_array_foreach(manifests, n, one)
    {
        if (!is_wanted(one, reference, architecture))
            continue;
        match = one;
        matches++;
    }
    if (matches == 0 && reference)
        return error_set(p->err, "%.150s: it holds no image %.100s; see its %s", p->image,
                         reference, p->document);
    if (matches == 0)
        return error_set(p->err, "%.150s: it holds no image for linux/%s; get one that does",
                         p->image, architecture ? architecture : "this processor");
    if (matches > 1)
        return several(p, manifests);
    return take_descriptor(p, match, "manifests", found);
}

/* ------------------------------------------------------------------------------------------- *
 * Manifests and configurations
 * ------------------------------------------------------------------------------------------- */

bool parse_manifest(const struct parse *p, json_t *manifest, struct parse_descriptor *config,
                    struct parse_descriptor *layers, unsigned most, unsigned *count)
{
    json_t *array, *one;
    size_t n;
    *count = 0;
    if (json_integer_value(json_object_get(manifest, "schemaVersion")) != 2)
        return error_set(p->err,
                         "%.150s: its manifest is not of version 2; convert it, with "
                         "skopeo for example",
                         p->image);
    if (!take_descriptor(p, json_object_get(manifest, "config"), "config", config) ||
        !take_array(p, manifest, "layers", most, &array))
        return false;
    json_array_foreach(array, n, one)
    {
        if (!take_descriptor(p, one, "layers", &layers[n]))
            return false;
    }
    *count = (unsigned)json_array_size(array);
    return true;
}

bool parse_platform(const struct parse *p, json_t *config, const char *architecture)
{
    const char *os = text_of(config, "os"), *cpu = text_of(config, "architecture");
    if (os && *os && strcmp(os, "linux") != 0)
        return error_set(p->err, "%.150s: it is for %.40s; only images for linux can run here",
                         p->image, os);
    if (cpu && *cpu && architecture && strcmp(cpu, architecture) != 0)
        return error_set(p->err,
                         "%.150s: it is for %.40s processors and this host's are %s; get "
                         "one that fits",
                         p->image, cpu, architecture);
    return true;
}

bool parse_config(const struct parse *p, json_t *config, struct image_config *c)
{
    json_t *run = json_object_get(config, "config");
    if (!run || json_is_null(run))
        return true;
    if (!json_is_object(run))
        return bad(p, "config", "is not an object");
    if (!take_strings(p, run, "Env", &c->env) ||
        !take_strings(p, run, "Entrypoint", &c->entrypoint) ||
        !take_strings(p, run, "Cmd", &c->command) || !take_text(p, run, "User", &c->user) ||
        !take_text(p, run, "WorkingDir", &c->workdir) ||
        !take_text(p, run, "StopSignal", &c->stop_signal))
        return false;
    for (unsigned i = 0; i < c->env.count; i++)
        if (!strchr(c->env.items[i], '='))
            return bad(p, "Env", "has an item without =");
    return true;
}

bool parse_diff_ids(const struct parse *p, json_t *config, struct digest *ids, unsigned most,
                    unsigned *count)
{
    json_t *array, *one;
    size_t n;
    if (!take_array(p, json_object_get(config, "rootfs"), "diff_ids", most, &array))
        return false;
    json_array_foreach(array, n, one)
    {
        if (!json_is_string(one))
            return bad(p, "rootfs.diff_ids", "has an item that is not a text");
        if (!digest_parse(&ids[n], json_string_value(one), p->err))
            return false;
    }
    *count = (unsigned)json_array_size(array);
    return true;
}

/* ------------------------------------------------------------------------------------------- *
 * docker-save
 * ------------------------------------------------------------------------------------------- */

static bool has_tag(json_t *image, const char *reference)
{
    json_t *tags = json_object_get(image, "RepoTags"), *tag;
    size_t n;
    json_array_foreach(tags, n, tag)
    {
        if (name_matches(json_string_value(tag), reference))
            return true;
    }
    return false;
}

bool parse_docker(const struct parse *p, json_t *manifest, const char *reference,
                  const char **config, const char **layers, unsigned most, unsigned *count)
{
    json_t *image = NULL, *one, *array;
    size_t n;
    if (!json_is_array(manifest) || !json_array_size(manifest))
        return error_set(p->err, "%.150s: its manifest.json lists no image; the image is damaged",
                         p->image);
    json_array_foreach(manifest, n, one)
    {
        if (!reference || has_tag(one, reference))
            image = one;
    }
    if (!image)
        return error_set(p->err, "%.150s: it holds no image %.100s; see its manifest.json",
                         p->image, reference);
    if (!reference && json_array_size(manifest) > 1)
        return error_set(p->err, "%.150s: it holds %zu images; name one with --image", p->image,
                         json_array_size(manifest));
    *config = text_of(image, "Config");
    if (!*config)
        return bad(p, "Config", "is missing or not a text");
    if (!take_array(p, image, "Layers", most, &array))
        return false;
    json_array_foreach(array, n, one)
    {
        layers[n] = json_string_value(one);
        if (!layers[n])
            return bad(p, "Layers", "has an item that is not a text");
    }
    *count = (unsigned)json_array_size(array);
    return true;
}
