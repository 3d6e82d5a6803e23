/*
 * Threads that take no signals: signals belong to the thread that main() runs on.
 */
#ifndef DOPPEL_BASE_THREAD_H
#define DOPPEL_BASE_THREAD_H

#include <pthread.h>
#include <stdbool.h>

#include "base/error.h"

/* Starts a thread with every signal blocked but the synchronous ones (SIGSEGV and its like). name
 * is for debuggers, at most 15 characters. */
bool thread_start(pthread_t *thread, const char *name, void *(*run)(void *ctx), void *ctx,
                  struct error *err);

#endif
