#include "boot/bios.h"

bool bios_install(struct place *place, struct error *err)
{
    (void)place;
    return error_set(err, "--boot 16: there is no BIOS yet; use --boot 32");
}
