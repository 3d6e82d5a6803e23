/* What another engine leaves to the binary translator. */
#define RIG_ENGINE engine_binary
#include "emulate_rig.h"

/* The handler is behind HLT. */
CODE(count_and_wait, "inc %ecx; inc %ecx; hlt; mov %ecx, %ebx");

TEST(event_left_by_another_engine_is_delivered_first)
{
    enum { VECTOR = 0x21, IDT = 0x20000, HANDLER = 5 /* behind two INCs and HLT */ };
    struct rig r;
    if (!rig_open(&r, count_and_wait, count_and_wait_end)) {
        CHECK(false);
        return;
    }
    uint64_t at = GUEST + HANDLER;
    uint64_t gate[2] = {(at & 0xffff) | 8u << 16 | UINT64_C(0x8e00) << 32 | at >> 16 << 48, 0};
    uint64_t code_segment = UINT64_C(0x00af9b000000ffff);
    memory_write(&r.memory, IDT + VECTOR * sizeof gate, gate, sizeof gate);
    memory_write(&r.memory, TABLES + 0x3008, &code_segment, sizeof code_segment);
    struct x86_state s = rig_state(&r);
    s.idtr = (struct x86_table){.base = IDT, .limit = 0xfff};
    s.gdtr = (struct x86_table){.base = TABLES + 0x3000, .limit = 0xf};
    s.gpr[X86_RCX] = 77;
    s.event_pending = true;
    s.event_vector = VECTOR;
    s.event_type = 0; /* an external interrupt */
    engine_binary.set_state(r.vcpu, &s);
    CHECK_EQ(engine_binary.run(r.vcpu, UINT64_MAX), ENGINE_HALTED);
    s = rig_state(&r);
    CHECK_EQ(s.gpr[X86_RBX], 77);
    CHECK(!s.event_pending);
    rig_close(&r);
}

TESTS(T(event_left_by_another_engine_is_delivered_first))
