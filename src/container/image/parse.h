/*
 * The JSON documents of an image, taken apart: every field's type and range is checked, and an
 * error names the field.
 */
#ifndef DOPPEL_CONTAINER_IMAGE_PARSE_H
#define DOPPEL_CONTAINER_IMAGE_PARSE_H

#include <jansson.h>

#include "container/image/image.h"

/* What is parsed, for errors, and where these go. */
struct parse {
    const char *image, *document;
    struct error *err;
};

struct parse_descriptor {
    struct digest digest;
    uint64_t size;
};

/* An index: the manifest of that reference; without one, the one for this architecture, or the
 * only one. */
bool parse_index(const struct parse *p, json_t *index, const char *reference,
                 const char *architecture, struct parse_descriptor *found);

bool parse_manifest(const struct parse *p, json_t *manifest, struct parse_descriptor *config,
                    struct parse_descriptor *layers, unsigned most, unsigned *count);

/* A configuration: os and architecture are this host's; architecture may be NULL. */
bool parse_platform(const struct parse *p, json_t *config, const char *architecture);
bool parse_config(const struct parse *p, json_t *config, struct image_config *c);
bool parse_diff_ids(const struct parse *p, json_t *config, struct digest *ids, unsigned most,
                    unsigned *count);

/* docker-save's manifest.json. The strings live as long as the document. */
bool parse_docker(const struct parse *p, json_t *manifest, const char *reference,
                  const char **config, const char **layers, unsigned most, unsigned *count);

#endif
