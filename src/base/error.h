/*
 * Errors are values: one sentence for a person, carried up and printed once.
 *
 * A function that can fail returns bool (true: done) or a pointer (NULL: failed) and takes a
 * `struct error *` last. The sentence has the form "what: why; what to do", without a trailing
 * newline and without the program's name.
 */
#ifndef DOPPEL_BASE_ERROR_H
#define DOPPEL_BASE_ERROR_H

#include <stdbool.h>

/* Exit statuses of the command line (docs/cli.md). */
enum exit_status {
    EXIT_STATUS_OK = 0,      /* the guest powered itself off */
    EXIT_STATUS_FAILURE = 1, /* a failure of ours or of the host */
    EXIT_STATUS_USAGE = 2,   /* a command line that can't be taken */
    EXIT_STATUS_CRASHED = 3, /* the guest crashed (triple fault under --no-reboot) */
    EXIT_STATUS_ENDED = 4,   /* ended from outside */
};

struct error {
    enum exit_status status; /* EXIT_STATUS_OK while unset */
    char text[512];
};

/* Sets err (which may be NULL) to the sentence, status EXIT_STATUS_FAILURE. Returns false always,
 * so that `return error_set(err, ...)` ends a function. */
bool error_set(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same, for what the user typed: status EXIT_STATUS_USAGE. */
bool error_usage(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same, with ": <strerror(errno)>" appended to the sentence. */
bool error_errno(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* What the static analyzer can't see from here: they return false always. */
#ifdef __clang_analyzer__
#define error_set(...)   (error_set(__VA_ARGS__), false)
#define error_usage(...) (error_usage(__VA_ARGS__), false)
#define error_errno(...) (error_errno(__VA_ARGS__), false)
#endif

#endif
