/*
 * The processor underneath: runs cases in forked children.
 */
#ifndef DOPPEL_SILICON_NATIVE_H
#define DOPPEL_SILICON_NATIVE_H

#include "base/error.h"
#include "case.h"

enum { NATIVE_BATCH = 512 };

enum native_status { NATIVE_NOT_RUN, NATIVE_ENDED, NATIVE_LOST };

struct native;

bool native_open(struct native **n, const struct case_pattern *pattern, struct error *err);
void native_close(struct native *n);

/* Where the caller puts up to NATIVE_BATCH cases, all of one kind of code. */
struct silicon_case *native_cases(struct native *n);

/* Runs the first `count` of them. A case that kills its child is lost, and said to be; the others
 * go on in another child. */
bool native_run(struct native *n, unsigned count, struct error *err);

enum native_status native_status(const struct native *n, unsigned i);
const struct case_end *native_end(const struct native *n, unsigned i);

/* Whether 32-bit code has segments with a base and a limit in FS and GS. */
bool native_has_segments(const struct native *n);

/* Whether there are AVX, AVX2, FMA and F16C. */
bool native_has_avx(const struct native *n);

#endif
