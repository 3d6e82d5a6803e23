/*
 * A container's output as it is kept: one line of text per line of output, in the form that
 * Kubernetes gave the world: "TIME STREAM TAG TEXT", TIME being RFC 3339 in UTC with nanoseconds,
 * STREAM stdout or stderr, TAG F for a whole line or P for a part of one.
 */
#ifndef DOPPEL_CONTAINER_FRONT_LOG_H
#define DOPPEL_CONTAINER_FRONT_LOG_H

#include <stddef.h>
#include <stdint.h>

#include "container/front/front.h"

/* A log that is being written: `log`, and `log.1` with what was before, when it has grown to half
 * of what is allowed. What is older is dropped. */
struct log_file {
    int folder; /* the container's; not the log's to close */
    int fd;
    uint64_t limit, size;
};

#define LOG_NAME       "log"
#define LOG_OLDER_NAME "log.1"

bool log_open(struct log_file *l, int folder, uint64_t limit);
void log_close(struct log_file *l);
/* Appends output that came just now. */
bool log_append(struct log_file *l, const char *stream, const char *data, size_t size);

/* One line of a log taken apart, in place. */
struct log_line {
    const char *time, *text;
    size_t time_size, text_size;
    bool is_error, partial;
};

/* Takes a line (without its newline) apart; false: it has not that form. */
bool log_parse(const char *line, size_t size, struct log_line *l);

#endif
