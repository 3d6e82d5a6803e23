#include "container/front/root.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

bool root_prepare(struct root *r, const struct front *f, const struct front_options *o,
                  struct error *err)
{
    (void)f;
    return realpath(o->image, r->path) || error_errno(err, "%.200s", o->image);
}

bool root_mount(struct root *r, const struct front *f, int folder, struct error *err)
{
    (void)r, (void)f, (void)folder, (void)err;
    return true;
}

void root_unmount(struct root *r)
{
    (void)r;
}

void root_free(struct root *r)
{
    image_config_free(&r->config);
    strings_free(&r->layers);
}
