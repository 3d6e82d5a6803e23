/*
 * Instructions as text, for traces and the debugger. libZydis prints them where the build found it;
 * without it, what our own decoder knows (the form, not the operands' values) has to do.
 */
#ifndef DOPPEL_MONITOR_DISASM_H
#define DOPPEL_MONITOR_DISASM_H

#include <stddef.h>
#include <stdint.h>

/* Prints the instruction at bytes[0 .. n) into text (of size bytes, always terminated), as code of
 * the given enum x86_code that lies at rip. Returns its length; 0 when it is none ("(bad)"). */
unsigned disasm(const uint8_t *bytes, size_t n, unsigned code, uint64_t rip, char *text,
                size_t size);

#endif
