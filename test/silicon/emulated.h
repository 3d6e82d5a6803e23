/*
 * The engine: runs the same cases on a machine made for them.
 */
#ifndef DOPPEL_SILICON_EMULATED_H
#define DOPPEL_SILICON_EMULATED_H

#include "base/error.h"
#include "case.h"

struct emulated;
struct engine;

/* segments: 32-bit code has FS and GS with a base and a limit, as natively; avx: XCR0 has AVX. */
bool emulated_open(struct emulated **e, const struct engine *engine, const char *model,
                   const struct case_pattern *pattern, bool segments, bool avx, struct error *err);
void emulated_close(struct emulated *e);

/* False: the engine did not come to an end; why says what it did. The data stays where it is until
 * the next case. */
bool emulated_run(struct emulated *e, const struct silicon_case *c, struct case_end *end,
                  const uint8_t **data, const char **why);

#endif
