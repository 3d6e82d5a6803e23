/*
 * A difference between two engines (engine/lockstep), as a report for a person.
 */
#ifndef DOPPEL_MONITOR_DIFFERENCE_H
#define DOPPEL_MONITOR_DIFFERENCE_H

#include <stdio.h>

#include "engine/lockstep/lockstep.h"

/* The engines are called by their names. */
void difference_print(FILE *to, const struct lockstep *l);

#endif
