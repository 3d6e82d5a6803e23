#include <stdlib.h>
#include <string.h>

#include "container/image/image.h"

void image_config_free(struct image_config *c)
{
    strings_free(&c->env);
    strings_free(&c->entrypoint);
    strings_free(&c->command);
    free(c->user);
    free(c->workdir);
    free(c->stop_signal);
    *c = (struct image_config){0};
}

static bool copy(char **to, const char *from, struct error *err)
{
    *to = from ? strdup(from) : NULL;
    return *to || !from || error_set(err, "%.100s: no memory left for it", from);
}

bool image_config_copy(struct image_config *to, const struct image_config *from, struct error *err)
{
    return strings_copy(&to->env, &from->env, err) &&
           strings_copy(&to->entrypoint, &from->entrypoint, err) &&
           strings_copy(&to->command, &from->command, err) && copy(&to->user, from->user, err) &&
           copy(&to->workdir, from->workdir, err) && copy(&to->stop_signal, from->stop_signal, err);
}
