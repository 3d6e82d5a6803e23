/*
 * doppel container images and prune
 */
#include <stdio.h>

#include "base/bits.h"
#include "cli/container.h"

static int run_images(int argc, char **argv, struct error *err)
{
    (void)argc, (void)argv, (void)err;
    return 0;
}
const struct command container_images = {.name = "images", .help = "", .run = run_images};
const struct command container_prune = {.name = "prune", .help = "", .run = run_images};
