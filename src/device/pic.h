/*
 * The two 8259A interrupt controllers of a PC, the slave on the master's IR2, with the
 * edge/level control registers (ELCR) of the PCI chip sets.
 */
#ifndef DOPPEL_DEVICE_PIC_H
#define DOPPEL_DEVICE_PIC_H

#include "base/archive.h"
#include "device/bus.h"

struct pic_chip {
    uint8_t irr, isr, imr;
    uint8_t lines; /* levels of IR0 to IR7 */
    uint8_t elcr;  /* bit set: level-triggered */
    uint8_t icw1, icw2, icw3, icw4;
    uint8_t icw_step;    /* 0: ready; else the ICW that is expected next at the odd port */
    uint8_t lowest;      /* the input of lowest priority (7 until rotated) */
    uint8_t read_isr;    /* OCW3: the even port reads ISR, not IRR */
    uint8_t poll;        /* OCW3: the next read is a poll */
    uint8_t special;     /* special mask mode */
    uint8_t auto_rotate; /* rotate in automatic EOI mode */
};

struct pic {
    struct pic_chip chip[2]; /* master, slave */
    struct irq_line intr;    /* the master's INT output */
    uint8_t output;
};

extern const struct archive_type pic_archive;

/* intr is the processor's INTR (or LINT0). */
void pic_init(struct pic *p, struct irq_line intr);
void pic_reset(struct pic *p);
bool pic_attach(struct pic *p, struct bus *ports, struct error *err);
/* IRQ 0 to 15 (2 is the cascade and ignored); a struct irq_line's set. */
void pic_set(void *pic, unsigned irq, bool level);
/* The INTA cycle: always gives a vector, the spurious one (IR7's) when nothing is pending. */
int pic_acknowledge(struct pic *p);
static inline bool pic_pending(const struct pic *p)
{
    return p->output;
}

#endif
