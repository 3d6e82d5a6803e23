/* What another engine leaves to the binary translator. */
#define RIG_ENGINE engine_binary
#include "emulate_rig.h"

/* The handler is behind HLT. */
CODE(count_and_wait, "inc %ecx; inc %ecx; hlt; mov %ecx, %ebx");

TEST(event_left_by_another_engine_is_delivered_first)
{
    enum { HANDLER = 5 /* behind two INCs and HLT */ };
    struct rig r;
    if (!rig_open(&r, count_and_wait, count_and_wait_end)) {
        CHECK(false);
        return;
    }
    struct x86_state s = rig_state_with_event(&r, HANDLER);
    s.gpr[X86_RCX] = 77;
    engine_binary.set_state(r.vcpu, &s);
    CHECK_EQ(engine_binary.run(r.vcpu, UINT64_MAX), ENGINE_HALTED);
    s = rig_state(&r);
    CHECK_EQ(s.gpr[X86_RBX], 77);
    CHECK(!s.event_pending);
    rig_close(&r);
}

TESTS(T(event_left_by_another_engine_is_delivered_first))
