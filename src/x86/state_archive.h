/*
 * The saved form of a vCPU's state (base/archive.h).
 */
#ifndef DOPPEL_X86_STATE_ARCHIVE_H
#define DOPPEL_X86_STATE_ARCHIVE_H

#include "base/archive.h"

/* Of struct x86_state. Loading refuses what no processor could be in. */
extern const struct archive_type x86_state_archive;

#endif
