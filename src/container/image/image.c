#include "container/image/image.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "container/image/parse.h"

/* An image of many layers has a configuration of some 100 KiB; an index's index stands in another
 * one at most in practice. */
enum { DOCUMENT_MAX = 8 << 20, INDEX_DEPTH = 4 };

static const char *host_architecture(void)
{
#if defined(__x86_64__)
    return "amd64";
#elif defined(__aarch64__)
    return "arm64";
#elif defined(__riscv) && __riscv_xlen == 64
    return "riscv64";
#else
    return NULL; /* not compared */
#endif
}

/* ------------------------------------------------------------------------------------------- *
 * Documents
 * ------------------------------------------------------------------------------------------- */

static json_t *parse_text(const struct oci_image *i, const char *what, char *text, size_t size,
                          struct error *err)
{
    json_error_t why;
    json_t *json = text ? json_loadb(text, size, JSON_REJECT_DUPLICATES, &why) : NULL;
    if (text && !json)
        error_set(err, "%.150s: its %.150s is not good JSON: %s in line %d; the image is damaged",
                  i->path, what, why.text, why.line);
    free(text);
    return json;
}

static json_t *read_plain(struct oci_image *i, const char *name, struct error *err)
{
    size_t size = 0;
    char *text = source_read(i->source, name, DOCUMENT_MAX, &size, err);
    return parse_text(i, name, text, size, err);
}

static void blob_name(char name[96], const struct digest *d)
{
    snprintf(name, 96, "blobs/sha256/%.64s", d->hex);
}

static json_t *read_blob(struct oci_image *i, const struct parse_descriptor *d, struct error *err)
{
    char name[96];
    size_t size;
    struct digest is;
    blob_name(name, &d->digest);
    char *text = source_read(i->source, name, DOCUMENT_MAX, &size, err);
    if (!text)
        return NULL;
    digest_of(&is, text, size);
    if (size != d->size || !digest_equal(&is, &d->digest)) {
        error_set(err,
                  "%.150s: its %s has not the size or digest that it should have; the image "
                  "is damaged",
                  i->path, name);
        free(text);
        return NULL;
    }
    return parse_text(i, name, text, size, err);
}

/* ------------------------------------------------------------------------------------------- *
 * Layouts (image specification: image-layout, image-index, manifest)
 * ------------------------------------------------------------------------------------------- */

static bool take_config(struct oci_image *i, json_t *config, struct error *err)
{
    struct parse p = {i->path, "configuration", err};
    struct digest contents[IMAGE_LAYERS_MAX];
    unsigned count = 0;
    if (!parse_platform(&p, config, host_architecture()) || !parse_config(&p, config, &i->config) ||
        !parse_diff_ids(&p, config, contents, IMAGE_LAYERS_MAX, &count))
        return false;
    if (count != i->layer_count)
        return error_set(err,
                         "%.200s: its configuration lists %u layers and its manifest %u; the "
                         "image is damaged",
                         i->path, count, i->layer_count);
    for (unsigned n = 0; n < count; n++)
        i->layers[n].content = contents[n];
    return true;
}

static bool take_manifest(struct oci_image *i, json_t *manifest, struct error *err)
{
    struct parse p = {i->path, "manifest", err};
    struct parse_descriptor config, layers[IMAGE_LAYERS_MAX];
    if (!parse_manifest(&p, manifest, &config, layers, IMAGE_LAYERS_MAX, &i->layer_count))
        return false;
    for (unsigned n = 0; n < i->layer_count; n++) {
        char name[96];
        struct image_layer *l = &i->layers[n];
        blob_name(name, &layers[n].digest);
        *l = (struct image_layer){strdup(name), .checked = true, .stored = layers[n].digest,
                                  .stored_size = layers[n].size};
        if (!l->file)
            return error_set(err, "%.200s: no memory left for it", i->path);
    }
    json_t *json = read_blob(i, &config, err);
    bool ok = json && take_config(i, json, err);
    json_decref(json);
    return ok;
}

/* Follows a descriptor of an index: to a manifest, or to another index, where this host's platform
 * is looked for. */
static bool take_descriptor(struct oci_image *i, const struct parse_descriptor *d, unsigned depth,
                            struct error *err)
{
    struct parse p = {i->path, "index", err};
    json_t *json = read_blob(i, d, err);
    if (!json)
        return false;
    bool ok;
    struct parse_descriptor next;
    if (!json_object_get(json, "manifests"))
        ok = take_manifest(i, json, err);
    else if (depth == INDEX_DEPTH)
        ok = error_set(err, "%.200s: an index in an index, and so on; the image is damaged",
                       i->path);
    else
        ok = parse_index(&p, json, NULL, host_architecture(), &next) &&
             take_descriptor(i, &next, depth + 1, err);
    json_decref(json);
    return ok;
}

static bool open_layout(struct oci_image *i, const char *reference, struct error *err)
{
    struct parse p = {i->path, "index.json", err};
    struct parse_descriptor d;
    json_t *json = read_plain(i, "index.json", err);
    bool ok = json && parse_index(&p, json, reference, host_architecture(), &d) &&
              take_descriptor(i, &d, 0, err);
    json_decref(json);
    return ok;
}

/* ------------------------------------------------------------------------------------------- *
 * docker-save archives: manifest.json lists images, their configurations and layers by name
 * ------------------------------------------------------------------------------------------- */

/* The configuration's file is named for its digest. */
static json_t *read_docker_config(struct oci_image *i, const char *name, struct error *err)
{
    struct digest is;
    size_t size;
    char *text = source_read(i->source, name, DOCUMENT_MAX, &size, err);
    if (!text)
        return NULL;
    const char *base = strrchr(name, '/');
    base = base ? base + 1 : name;
    digest_of(&is, text, size);
    if (strncmp(base, is.hex, DIGEST_HEX) != 0) {
        error_set(err,
                  "%.150s: its %.150s has not the digest that its name says; the image is "
                  "damaged",
                  i->path, name);
        free(text);
        return NULL;
    }
    return parse_text(i, name, text, size, err);
}

static bool open_docker(struct oci_image *i, const char *reference, struct error *err)
{
    struct parse p = {i->path, "manifest.json", err};
    json_t *json = read_plain(i, "manifest.json", err), *config = NULL;
    const char *config_name, *files[IMAGE_LAYERS_MAX];
    bool ok = json && parse_docker(&p, json, reference, &config_name, files, IMAGE_LAYERS_MAX,
                                   &i->layer_count);
    for (unsigned n = 0; ok && n < i->layer_count; n++) {
        i->layers[n].file = strdup(files[n]);
        ok = i->layers[n].file || error_set(err, "%.200s: no memory left for it", i->path);
    }
    ok = ok && (config = read_docker_config(i, config_name, err)) && take_config(i, config, err);
    json_decref(config);
    json_decref(json);
    return ok;
}

/* ------------------------------------------------------------------------------------------- *
 * The image
 * ------------------------------------------------------------------------------------------- */

struct oci_image *oci_image_open(const char *path, const char *reference, int scratch,
                                 struct room *room, struct error *err)
{
    struct oci_image *i = calloc(1, sizeof *i);
    bool ok = i && (i->path = strdup(path));
    if (!ok)
        error_set(err, "%.200s: no memory left to open it", path);
    ok = ok && (i->source = source_open(path, scratch, room, err));
    if (ok && source_has(i->source, "index.json"))
        ok = open_layout(i, reference, err);
    else if (ok && source_has(i->source, "manifest.json"))
        ok = open_docker(i, reference, err);
    else if (ok)
        ok = error_set(err,
                       "%.200s: neither an OCI image layout (index.json) nor a docker-save "
                       "archive (manifest.json); name one, or a folder with a root file "
                       "system",
                       path);
    if (ok)
        return i;
    oci_image_close(i);
    return NULL;
}

void oci_image_close(struct oci_image *i)
{
    if (!i)
        return;
    for (unsigned n = 0; n < ARRAY_LEN(i->layers); n++)
        free(i->layers[n].file);
    image_config_free(&i->config);
    source_close(i->source);
    free(i->path);
    free(i);
}

static bool check_digests(struct oci_image *i, const struct image_layer *l, struct stream *s,
                          struct error *err)
{
    struct digest stored, plain;
    if (!stream_finish(s, &stored, &plain, err))
        return false;
    if (l->checked && !digest_equal(&stored, &l->stored))
        return error_set(err, "%.150s: its %.150s has the digest sha256:%s; the image is damaged",
                         i->path, l->file, stored.hex);
    if (!digest_equal(&plain, &l->content))
        return error_set(err,
                         "%.150s: its %.150s unpacks to the digest sha256:%s, which is not "
                         "the one in rootfs.diff_ids; the image is damaged",
                         i->path, l->file, plain.hex);
    return true;
}

bool oci_image_unpack(struct oci_image *i, unsigned layer, int root, const struct layer_how *how,
                      struct error *err)
{
    const struct image_layer *l = &i->layers[layer];
    struct source_file f;
    if (!source_find(i->source, l->file, &f, err))
        return false;
    struct stream *s = calloc(1, sizeof *s);
    struct tar *t = NULL;
    bool ok = s != NULL || error_set(err, "%.200s: no memory left to unpack it", i->path);
    if (ok && l->checked && f.size != l->stored_size)
        ok = error_set(err, "%.150s: its %.150s is %llu bytes long, not %llu; the image is damaged",
                       i->path, l->file, (unsigned long long)f.size,
                       (unsigned long long)l->stored_size);
    ok = ok && stream_open(s, l->file, f.fd, f.offset, f.size, true, err) &&
         (t = tar_open(s, err)) && layer_unpack(t, root, how, err) && check_digests(i, l, s, err);
    tar_close(t);
    if (s)
        stream_close(s);
    free(s);
    source_file_close(&f);
    return ok;
}
