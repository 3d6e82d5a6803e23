/* Segment loads and addresses: the checks of SDM 3, chapter 5. */
#include "x86/segment.h"

#include "x86_fixture.h"

TEST(real_mode_loads_change_the_base_only)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = f->c;
    c->s.seg[X86_DS].limit = 0xffffffff; /* "unreal" mode */
    x86_load_segment(c, X86_DS, 0x1234);
    CHECK_EQ(c->s.seg[X86_DS].base, 0x12340);
    CHECK_EQ(c->s.seg[X86_DS].limit, 0xffffffff);
    CHECK_EQ(c->s.seg[X86_DS].selector, 0x1234);
    fixture_free(f);
}

TEST(real_mode_words_do_not_wrap)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = f->c;
    CHECK_EQ(x86_linear(c, X86_DS, 0xfffe, 2, X86_READ), 0xfffe);
    CHECK_RAISES(c, x86_linear(c, X86_DS, 0xffff, 2, X86_READ), X86_GP, 0);
    CHECK_RAISES(c, x86_linear(c, X86_SS, 0xffff, 2, X86_WRITE), X86_SS_FAULT, 0);
    fixture_free(f);
}

TEST(protected_loads_read_the_descriptor_and_mark_it)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 0);
    CHECK(!(get_descriptor(f, EXPAND_DOWN) & BIT(40)));
    x86_load_segment(c, X86_ES, EXPAND_DOWN);
    CHECK_EQ(c->s.seg[X86_ES].base, 0x100);
    CHECK_EQ(c->s.seg[X86_ES].limit, 0xfff);
    CHECK(get_descriptor(f, EXPAND_DOWN) & BIT(40));
    CHECK(c->s.seg[X86_ES].attr & SEG_ACCESSED);
    fixture_free(f);
}

TEST(data_loads_are_checked)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 3);
    CHECK_RAISES(c, x86_load_segment(c, X86_DS, DATA0 | 3), X86_GP, DATA0);
    CHECK_RAISES(c, x86_load_segment(c, X86_DS, EXECUTE_ONLY), X86_GP, EXECUTE_ONLY);
    CHECK_RAISES(c, x86_load_segment(c, X86_DS, TSS_A), X86_GP, TSS_A);
    CHECK_RAISES(c, x86_load_segment(c, X86_DS, GDT_END), X86_GP, GDT_END);
    CHECK_RAISES(c, x86_load_segment(c, X86_DS, 0x0c), X86_GP, 0x0c); /* no LDT */
    CHECK_EQ(RAISED(c, x86_load_segment(c, X86_DS, CONFORMING0 | 3)), -1);
    CHECK_EQ(RAISED(c, x86_load_segment(c, X86_DS, DATA3 & ~3)), -1);
    fixture_free(f);
}

TEST(absent_segments_raise_np_or_ss)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 0);
    CHECK_RAISES(c, x86_load_segment(c, X86_GS, ABSENT), X86_NP, ABSENT);
    CHECK_RAISES(c, x86_load_segment(c, X86_SS, ABSENT), X86_SS_FAULT, ABSENT);
    CHECK(!(get_descriptor(f, ABSENT) & BIT(40)));
    fixture_free(f);
}

TEST(stack_loads_need_the_exact_level)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 0);
    CHECK_RAISES(c, x86_load_segment(c, X86_SS, 0), X86_GP, 0);
    CHECK_RAISES(c, x86_load_segment(c, X86_SS, DATA3), X86_GP, DATA3 & ~3);
    CHECK_RAISES(c, x86_load_segment(c, X86_SS, DATA0 | 1), X86_GP, DATA0);
    CHECK_RAISES(c, x86_load_segment(c, X86_SS, READ_ONLY), X86_GP, READ_ONLY);
    CHECK_RAISES(c, x86_load_segment(c, X86_SS, CODE0), X86_GP, CODE0);
    CHECK_EQ(RAISED(c, x86_load_segment(c, X86_SS, DATA0)), -1);
    fixture_free(f);
}

TEST(null_selectors_load_and_then_fault)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 0);
    x86_load_segment(c, X86_ES, 3);
    CHECK_EQ(c->s.seg[X86_ES].selector, 3);
    CHECK_RAISES(c, x86_linear(c, X86_ES, 0, 1, X86_READ), X86_GP, 0);
    fixture_free(f);
}

TEST(long_mode_stack_may_be_null_below_cpl_3)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_long(f, 0);
    CHECK_EQ(RAISED(c, x86_load_segment(c, X86_SS, 0)), -1);
    CHECK_EQ(c->cpl, 0);
    CHECK_RAISES(c, x86_load_segment(c, X86_SS, 1), X86_GP, 0);
    c = fixture_long(f, 3);
    CHECK_RAISES(c, x86_load_segment(c, X86_SS, 3), X86_GP, 0);
    fixture_free(f);
}

TEST(null_clears_the_bases_of_fs_and_gs)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_long(f, 0);
    c->s.seg[X86_GS].base = 0xffff888000000000;
    CHECK_EQ(x86_linear(c, X86_GS, 8, 8, X86_READ), 0xffff888000000008);
    CHECK_EQ(x86_linear(c, X86_DS, 8, 8, X86_READ), 8);
    x86_load_segment(c, X86_GS, 0);
    CHECK_EQ(c->s.seg[X86_GS].base, 0);
    fixture_free(f);
}

TEST(types_and_limits_bound_accesses)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 0);
    x86_load_segment(c, X86_ES, READ_ONLY);
    CHECK_EQ(x86_linear(c, X86_ES, 0xffc, 4, X86_READ), 0xffc);
    CHECK_RAISES(c, x86_linear(c, X86_ES, 0xffd, 4, X86_READ), X86_GP, 0);
    CHECK_RAISES(c, x86_linear(c, X86_ES, 0, 4, X86_WRITE), X86_GP, 0);
    CHECK_RAISES(c, x86_linear(c, X86_ES, 0, 4, X86_RMW), X86_GP, 0);
    CHECK_RAISES(c, x86_linear(c, X86_CS, 0, 4, X86_WRITE), X86_GP, 0);
    CHECK_EQ(x86_linear(c, X86_CS, 0, 4, X86_READ), 0);
    c->s.seg[X86_CS] = cached(f, EXECUTE_ONLY);
    CHECK_RAISES(c, x86_linear(c, X86_CS, 0, 4, X86_READ), X86_GP, 0);
    fixture_free(f);
}

TEST(expand_down_segments_lie_above_their_limit)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 0);
    x86_load_segment(c, X86_ES, EXPAND_DOWN);
    CHECK_RAISES(c, x86_linear(c, X86_ES, 0xfff, 1, X86_READ), X86_GP, 0);
    CHECK_EQ(x86_linear(c, X86_ES, 0x1000, 4, X86_READ), 0x1100);
    CHECK_EQ(x86_linear(c, X86_ES, 0xfffc, 4, X86_WRITE), 0x100fc);
    CHECK_RAISES(c, x86_linear(c, X86_ES, 0xfffd, 4, X86_WRITE), X86_GP, 0); /* B is 0 */
    fixture_free(f);
}

TEST(ltr_marks_busy_once)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 0);
    x86_load_tr(c, TSS_B);
    CHECK_EQ(get_descriptor(f, TSS_B) >> 40 & 15, DESC_TSS32_BUSY);
    CHECK_EQ(c->s.tr.base, AT_TSS2);
    CHECK_RAISES(c, x86_load_tr(c, TSS_B), X86_GP, TSS_B);
    CHECK_RAISES(c, x86_load_tr(c, 0), X86_GP, 0);
    CHECK_RAISES(c, x86_load_tr(c, DATA0), X86_GP, DATA0);
    fixture_free(f);
}

TEST(long_mode_system_descriptors_are_sixteen_bytes)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_long(f, 0);
    store_u64(at(f, AT_GDT + TSS_LONG + 8), 0xffff8880);
    x86_load_tr(c, TSS_LONG);
    CHECK_EQ(c->s.tr.base, 0xffff888000000000 + AT_TSS);
    set_descriptor(f, TSS_LONG, descriptor(AT_TSS, 0x67, SEG_P | DESC_TSS32));
    store_u64(at(f, AT_GDT + TSS_LONG + 8), 0x00008880); /* not canonical */
    CHECK_RAISES(c, x86_load_tr(c, TSS_LONG), X86_GP, TSS_LONG);
    fixture_free(f);
}

TEST(ldt_selectors_use_the_ldt)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = fixture_protected(f, 0);
    store_u64(at(f, AT_LDT + 8), descriptor(0x777, 0xff, SEG_P | SEG_S | SEG_WRITABLE));
    x86_load_ldtr(c, LDT);
    x86_load_segment(c, X86_FS, 0x0c);
    CHECK_EQ(c->s.seg[X86_FS].base, 0x777);
    CHECK_RAISES(c, x86_load_segment(c, X86_FS, 0x44), X86_GP, 0x44); /* outside of the limit */
    x86_load_ldtr(c, 0);
    CHECK_RAISES(c, x86_load_segment(c, X86_FS, 0x0c), X86_GP, 0x0c);
    fixture_free(f);
}

TESTS(T(real_mode_loads_change_the_base_only), T(real_mode_words_do_not_wrap),
      T(protected_loads_read_the_descriptor_and_mark_it), T(data_loads_are_checked),
      T(absent_segments_raise_np_or_ss), T(stack_loads_need_the_exact_level),
      T(null_selectors_load_and_then_fault), T(long_mode_stack_may_be_null_below_cpl_3),
      T(null_clears_the_bases_of_fs_and_gs), T(types_and_limits_bound_accesses),
      T(expand_down_segments_lie_above_their_limit), T(ltr_marks_busy_once),
      T(long_mode_system_descriptors_are_sixteen_bytes), T(ldt_selectors_use_the_ldt))
