/*
 * Tells perf(1) what is where in translated code: /tmp/perf-PID.map, a line for each block, which
 * is the place and the form that it looks for (tools/perf/Documentation/jit-interface.txt in
 * Linux). See docs/performance.md.
 */
#ifndef DOPPEL_ENGINE_BINARY_PERF_MAP_H
#define DOPPEL_ENGINE_BINARY_PERF_MAP_H

#include <stdio.h>

#include "engine/binary/code.h"

struct perf_map {
    FILE *file; /* NULL: nobody wants one */
};

/* What is in the code already is named too. */
bool perf_map_open(struct perf_map *p, const struct code *c, struct error *err);
void perf_map_close(struct perf_map *p);
/* Block b was made, of the guest's code at rip. When the code is recycled, perf goes by the line
 * that was written last. */
void perf_map_add(struct perf_map *p, const struct code *c, uint32_t b, uint64_t rip);

#endif
