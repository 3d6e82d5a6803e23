/* The vCPU's state: reset, INIT, and its saved form. */
#include "x86/state.h"

#include <stdlib.h>

#include "base/bits.h"
#include "test.h"
#include "x86/state_archive.h"

TEST(reset_is_the_manuals)
{
    struct x86_state s;
    memset(&s, 0xa5, sizeof s);
    x86_state_reset(&s, true, false);
    CHECK_EQ(s.seg[X86_CS].base + s.rip, 0xfffffff0);
    CHECK_EQ(s.seg[X86_CS].selector, 0xf000);
    CHECK_EQ(s.rflags, FLAG_1);
    CHECK_EQ(s.cr0, 0x60000010);
    CHECK_EQ(s.cr3 | s.cr4 | s.cr2 | s.efer, 0);
    CHECK_EQ(s.gpr[X86_RAX] | s.gpr[X86_RSP], 0);
    CHECK_EQ((s.gpr[X86_RDX] >> 8) & 0xf, 6);
    for (unsigned i = 0; i < X86_SEG_COUNT; i++) {
        CHECK_EQ(s.seg[i].limit, 0xffff);
        CHECK_EQ(s.seg[i].attr, 0x93);
    }
    CHECK_EQ(s.idtr.limit, 0xffff);
    CHECK_EQ(s.dr[6], 0xffff0ff0);
    CHECK_EQ(s.dr[7], 0x400);
    CHECK_EQ(s.fcw, 0x40);
    CHECK_EQ(s.mxcsr, 0x1f80);
    CHECK_EQ(s.xcr0, 1);
    CHECK_EQ(s.pat, UINT64_C(0x0007040600070406));
    CHECK_EQ(s.activity, X86_ACTIVE);
    x86_state_reset(&s, false, false);
    CHECK_EQ(s.activity, X86_WAIT_FOR_SIPI);
}

TEST(init_keeps_what_it_must)
{
    struct x86_state s, old;
    x86_state_reset(&s, true, false);
    s.cr0 = CR0_PE | CR0_PG | CR0_NE;
    s.cr4 = CR4_PAE;
    s.efer = EFER_LME | EFER_LMA;
    s.fcw = 0x37f;
    s.st[3].mantissa = 77;
    s.vec[5].u64[1] = 88;
    s.opmask[7] = 11;
    s.zmm_upper[15][3] = 12;
    s.zmm_more[15][7] = 13;
    s.mxcsr = 0x1f81;
    s.pat = 0x0606060606060606;
    s.lstar = 99;
    s.mtrr_base[2] = 0x1006;
    s.gpr[X86_RBX] = 5;
    s.nmi_blocked = true;
    s.event_pending = true;
    old = s;
    x86_state_reset(&s, false, true);
    CHECK_EQ(s.cr0, CR0_ET);
    CHECK_EQ(s.cr4 | s.efer | s.gpr[X86_RBX], 0);
    CHECK(!s.nmi_blocked && !s.event_pending);
    CHECK_EQ(s.fcw, old.fcw);
    CHECK_EQ(s.st[3].mantissa, 77);
    CHECK_EQ(s.vec[5].u64[1], 88);
    CHECK_EQ(s.opmask[7], 11);
    CHECK_EQ(s.zmm_upper[15][3], 12);
    CHECK_EQ(s.zmm_more[15][7], 13);
    CHECK_EQ(s.mxcsr, 0x1f81);
    CHECK_EQ(s.pat, old.pat);
    CHECK_EQ(s.lstar, 99);
    CHECK_EQ(s.mtrr_base[2], 0x1006);
    CHECK_EQ(s.activity, X86_WAIT_FOR_SIPI);
}

/* A state with something in every field, that a processor can be in. */
static void fill(struct x86_state *s)
{
    memset(s, 1, sizeof *s);
    s->cr0 = CR0_PE | CR0_PG;
    s->cr4 = CR4_PAE | CR4_OSFXSR;
    s->cr3 = 0x1234567000;
    s->efer = EFER_LME | EFER_LMA;
    s->rflags = FLAG_1 | FLAG_IF | FLAG_ZF;
    s->mxcsr = 0x1f80;
    s->activity = X86_HALTED;
    s->event_type = 3;
    s->seg[X86_GS].base = UINT64_C(0xffff888000000000);
    s->gpr[X86_GPR_ZERO] = 0;
}

static bool load_over(const struct archive *a, struct x86_state *to, uint8_t before)
{
    struct archive in = *a;
    memset(to, before, sizeof *to);
    return archive_load(&in, &x86_state_archive, 0, to, NULL);
}

TEST(every_field_is_saved_and_loaded)
{
    struct x86_state s, over0, over1;
    struct archive a;
    fill(&s);
    archive_init(&a);
    CHECK(archive_save(&a, &x86_state_archive, 0, &s, NULL));
    CHECK(load_over(&a, &over0, 0));
    CHECK(load_over(&a, &over1, 1));

    /* Bytes that depend on what was there before were not loaded: only padding may be. */
    unsigned kept = 0;
    const uint8_t *x = (const uint8_t *)&over0, *y = (const uint8_t *)&over1,
                  *want = (const uint8_t *)&s;
    for (size_t i = 0; i < sizeof s; i++) {
        if (x[i] != y[i])
            kept++;
        else
            CHECK_EQ(x[i], want[i]);
    }
    unsigned padding = 8 * 6 /* segments */ + 2 * 6 /* tables */ + 8 * 6 /* x87 */ +
                       8 /* the slot of the block's start */;
    padding += 4 /* behind pkru */ + 1 /* behind ftag */ + 4 /* behind fds */ + 4 /* at the end */;
    CHECK_EQ(kept, padding);
    archive_free(&a);
}

static bool loads(void (*change)(struct x86_state *s))
{
    struct x86_state s;
    struct archive a;
    struct error err = {0};
    fill(&s);
    change(&s);
    archive_init(&a);
    bool ok = archive_save(&a, &x86_state_archive, 0, &s, NULL) &&
              archive_load(&a, &x86_state_archive, 0, &s, &err);
    CHECK(ok || strstr(err.text, "processor"));
    archive_free(&a);
    return ok;
}

static void nothing(struct x86_state *s) {}
static void no_protection(struct x86_state *s)
{
    s->cr0 &= ~(uint64_t)CR0_PE;
}
static void half_long(struct x86_state *s)
{
    s->efer = EFER_LMA;
}
static void v86_in_long(struct x86_state *s)
{
    s->rflags |= FLAG_VM;
}
static void high_cr4(struct x86_state *s)
{
    s->cr4 |= BIT(40);
}
static void high_flags(struct x86_state *s)
{
    s->rflags |= BIT(30);
}
static void odd_activity(struct x86_state *s)
{
    s->activity = 4;
}
static void odd_event(struct x86_state *s)
{
    s->event_type = 7;
}
static void odd_mxcsr(struct x86_state *s)
{
    s->mxcsr = 0x10000;
}

TEST(impossible_states_are_refused)
{
    CHECK(loads(nothing));
    static void (*const bad[])(struct x86_state * s) = {
        no_protection, half_long, v86_in_long, high_cr4,
        high_flags,    odd_event, odd_mxcsr,   odd_activity,
    };
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
        CHECK(!loads(bad[i]));
}

TESTS(T(reset_is_the_manuals), T(init_keeps_what_it_must), T(every_field_is_saved_and_loaded),
      T(impossible_states_are_refused))
