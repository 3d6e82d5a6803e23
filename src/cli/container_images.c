/*
 * doppel container images and prune: what is stored of images.
 */
#include <stdio.h>

#include "base/bits.h"
#include "cli/container.h"
#include "cli/json.h"
#include "container/front/layers.h"

struct images {
    struct container_common common; /* first */
    bool json;
};

static const struct container_option images_options[] = {
    {"json", 0, OPTION_FLAG, offsetof(struct images, json), NULL},
};

static void print_text(const struct front_layers *layers)
{
    printf("%-12s  %10s  %s\n", "LAYER", "CONTAINERS", "CAME WITH");
    for (unsigned i = 0; i < layers->count; i++)
        printf("%.12s  %10u  %s\n", layers->items[i].digest, layers->items[i].containers,
               layers->items[i].origin ? layers->items[i].origin : "");
}

static void print_json(const struct front_layers *layers)
{
    printf("[");
    for (unsigned i = 0; i < layers->count; i++) {
        printf("%s\n  {\"digest\": \"sha256:%s\", \"containers\": %u, \"origin\": ", i ? "," : "",
               layers->items[i].digest, layers->items[i].containers);
        json_print_string(stdout, layers->items[i].origin);
        printf("}");
    }
    printf("%s]\n", layers->count ? "\n" : "");
}

static int run_images(int argc, char **argv, struct error *err)
{
    struct images images = {0};
    struct front f = {.fd = -1, .containers = -1};
    struct front_layers layers = {0};
    int at = container_options(&container_images, images_options, ARRAY_LEN(images_options),
                               &images, argc, argv, err);
    if (at >= 0 && images.common.help)
        fputs(container_images.help, stdout);
    else if (at >= 0 && at < argc)
        error_usage(err, "%.80s: images takes no name; see `doppel container images --help`",
                    argv[at]);
    else if (at >= 0 && container_front(&f, &images.common, false, err) &&
             front_layers(&f, &layers, err))
        images.json ? print_json(&layers) : print_text(&layers);
    front_layers_free(&layers);
    front_close(&f);
    return EXIT_STATUS_OK; /* with err, its status */
}

static int run_prune(int argc, char **argv, struct error *err)
{
    struct images images = {0};
    struct front f = {.fd = -1, .containers = -1};
    struct strings removed = {0};
    int at = container_options(&container_prune, NULL, 0, &images, argc, argv, err);
    if (at >= 0 && images.common.help)
        fputs(container_prune.help, stdout);
    else if (at >= 0 && at < argc)
        error_usage(err, "%.80s: prune takes no name; see `doppel container prune --help`",
                    argv[at]);
    else if (at >= 0 && container_front(&f, &images.common, true, err))
        front_prune(&f, &removed, err);
    for (unsigned i = 0; i < removed.count; i++)
        printf("%s\n", removed.items[i]);
    strings_free(&removed);
    front_close(&f);
    return EXIT_STATUS_OK; /* with err, its status */
}

const struct command container_images = {
    .name = "images",
    .summary = "list the layers that are stored",
    .help = "doppel container images [--json]\n"
            "\n"
            "Lists the layers of images that were run, how many containers use each, and which\n"
            "image it came with first.\n",
    .run = run_images,
};

const struct command container_prune = {
    .name = "prune",
    .summary = "remove layers that no container uses",
    .help = "doppel container prune\n"
            "\n"
            "Removes the stored layers that no container uses, and prints their digests. An image\n"
            "that is run again unpacks them again.\n",
    .run = run_prune,
};
