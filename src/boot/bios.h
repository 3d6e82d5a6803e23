/*
 * The few real-mode BIOS services that a kernel's 16-bit setup code calls.
 */
#ifndef DOPPEL_BOOT_BIOS_H
#define DOPPEL_BOOT_BIOS_H

#include "boot/place.h"

/* Puts the services' code and the interrupt table into guest memory. */
bool bios_install(struct place *place, struct error *err);

#endif
