/*
 * What is known of a container: containers/NAME/record.json, written by its monitor alone.
 */
#ifndef DOPPEL_CONTAINER_FRONT_RECORD_H
#define DOPPEL_CONTAINER_FRONT_RECORD_H

#include <signal.h>
#include <stdint.h>
#include <sys/types.h>

#include "container/front/front.h"

enum record_state { RECORD_CREATED, RECORD_RUNNING, RECORD_EXITED };

/* A process that can't be mistaken for a later one with the same number. */
struct record_process {
    pid_t pid;      /* 0: none */
    uint64_t start; /* when it started, in the kernel's ticks since boot */
};

struct front_record {
    char name[FRONT_NAME_MAX + 1];
    char *image, *command, *user, *cwd; /* owned */
    struct strings env;
    struct strings layers; /* the digests of the layers it needs */
    int64_t created;       /* seconds since 1970 */
    int64_t ended;
    int stop_signal;
    int exit_status;
    bool tty, remove;
    bool lost; /* nobody wrote down its end: the runtime may still know it */
    enum record_state state;
    struct record_process init, monitor;
    char error[256]; /* why it never ran */
};

/* Its folder under containers/; -1: there is no such container (err says so). */
int record_folder(const struct front *f, const char *name, struct error *err);

/* state is RECORD_EXITED where the record says that it runs and its process is gone. */
bool record_load(const struct front *f, const char *name, struct front_record *r,
                 struct error *err);
bool record_save(int folder, const struct front_record *r, struct error *err);
void record_free(struct front_record *r);

/* The process of that number as it is now; {0} when there is none. */
struct record_process record_process(pid_t pid);
bool record_process_alive(const struct record_process *p);
/* A descriptor of the process, or -1 when it is gone. */
int record_process_open(const struct record_process *p);

const char *record_state_name(enum record_state s);

#endif
