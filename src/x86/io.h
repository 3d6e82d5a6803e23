/*
 * I/O permission (SDM 1, 19.5).
 */
#ifndef DOPPEL_X86_IO_H
#define DOPPEL_X86_IO_H

#include "x86/cpu.h"

/* Raises #GP(0) unless CPL and IOPL, or the TSS's bitmap, let the running code use all of the ports
 * [port, port + size). */
void x86_io_check(struct x86_cpu *c, uint16_t port, unsigned size);

#endif
