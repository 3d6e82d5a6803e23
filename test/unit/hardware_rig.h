/* The rig on KVM, for tests that are skipped where there is none. */
#ifndef DOPPEL_TEST_HARDWARE_RIG_H
#define DOPPEL_TEST_HARDWARE_RIG_H

#define RIG_ENGINE engine_hardware
#include "emulate_rig.h"

static char why[256];

#define NEEDS_KVM()                                                                                \
    do {                                                                                           \
        if (!engine_hardware.usable(why, sizeof why))                                              \
            SKIP(why);                                                                             \
    } while (0)

#endif
