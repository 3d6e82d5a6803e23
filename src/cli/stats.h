/*
 * --stats: what was executed, how, and what it cost.
 */
#ifndef DOPPEL_CLI_STATS_H
#define DOPPEL_CLI_STATS_H

#include <stdio.h>

#include "machine/machine.h"

void stats_print(FILE *to, const struct machine_stats *s, bool json);

#endif
