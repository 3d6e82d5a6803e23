/*
 * The little of JSON (RFC 8259) that --json prints.
 */
#ifndef DOPPEL_CLI_JSON_H
#define DOPPEL_CLI_JSON_H

#include <stdio.h>

/* A string with its quotes; NULL is null. */
void json_print_string(FILE *to, const char *s);

#endif
