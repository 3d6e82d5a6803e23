/*
 * The tables that firmware leaves: found the way an operating system finds them, summing to zero,
 * telling the machine as it is.
 */
#include "machine/firmware.h"
#include "base/bits.h"
#include "machine/machine.h"
#include "machine/map.h"
#include "test.h"

static uint8_t image[1 << 20];

static void build(unsigned cpus, uint64_t low, uint64_t high)
{
    struct memory m;
    struct error err = {0};
    const struct firmware_info info = {"test", cpus, low, high};
    memset(image, 0, sizeof image);
    CHECK(memory_create(&m, 1 << 20, &err));
    CHECK(firmware_write(&m, &info, &err));
    CHECK(memory_read(&m, 0, image, sizeof image));
    memory_destroy(&m);
}

static bool sums(const uint8_t *p, size_t n)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum = (uint8_t)(sum + p[i]);
    return sum == 0;
}

static const uint8_t *find(const char *mark, uint32_t from, uint32_t to)
{
    for (uint32_t at = from; at < to; at += 16)
        if (memcmp(image + at, mark, strlen(mark)) == 0)
            return image + at;
    return NULL;
}

/* The table of that signature that the XSDT (or the RSDT) names. */
static const uint8_t *table(const char *signature, bool extended)
{
    const uint8_t *rsdp = find("RSD PTR ", 0xe0000, 0x100000);
    if (!rsdp)
        return NULL;
    uint64_t root = extended ? load_u64(rsdp + 24) : load_u32(rsdp + 16);
    unsigned size = extended ? 8 : 4;
    if (root >= sizeof image)
        return NULL;
    const uint8_t *r = image + root;
    for (uint32_t at = 36; at < load_u32(r + 4); at += size) {
        uint64_t gpa = extended ? load_u64(r + at) : load_u32(r + at);
        if (gpa < sizeof image && memcmp(image + gpa, signature, 4) == 0)
            return image + gpa;
    }
    return NULL;
}

TEST(acpi_tables_are_found_and_sum_to_zero)
{
    build(4, 512 << 20, 0);
    const uint8_t *rsdp = find("RSD PTR ", 0xe0000, 0x100000);
    CHECK(rsdp != NULL && sums(rsdp, 20) && sums(rsdp, 36));
    CHECK_EQ(rsdp - image, MAP_ACPI);
    static const char *const names[] = {"FACP", "APIC", "MCFG"};
    for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
        const uint8_t *t = table(names[i], true);
        CHECK(t != NULL && sums(t, load_u32(t + 4)));
        CHECK(t == table(names[i], false));
    }
    const uint8_t *fadt = table("FACP", true);
    const uint8_t *dsdt = image + load_u32(fadt + 40), *facs = image + load_u32(fadt + 36);
    CHECK(memcmp(dsdt, "DSDT", 4) == 0 && sums(dsdt, load_u32(dsdt + 4)));
    CHECK(memcmp(facs, "FACS", 4) == 0 && (facs - image) % 64 == 0);
    CHECK_EQ(load_u64(fadt + 140), load_u32(fadt + 40)); /* X_DSDT */
}

/* Counts the MADT's entries of a type. */
static unsigned madt_entries(uint8_t type)
{
    const uint8_t *t = table("APIC", true);
    unsigned n = 0;
    for (uint32_t at = 44; at < load_u32(t + 4); at += t[at + 1]) {
        n += t[at] == type;
        if (t[at + 1] == 0)
            return 0;
    }
    return n;
}

TEST(the_madt_names_every_processor)
{
    for (unsigned cpus = 1; cpus <= 16; cpus += 5) {
        build(cpus, 512 << 20, 0);
        CHECK_EQ(madt_entries(0), cpus);
        CHECK_EQ(madt_entries(1), 1); /* the I/O APIC */
    }
}

TEST(the_mp_table_is_found_and_counts_right)
{
    build(3, 512 << 20, 0);
    const uint8_t *f = find("_MP_", 0xf0000, 0x100000);
    CHECK(f != NULL && sums(f, 16));
    const uint8_t *t = image + load_u32(f + 4);
    uint16_t length = load_u16(t + 4), entries = load_u16(t + 34);
    CHECK(memcmp(t, "PCMP", 4) == 0 && sums(t, length));
    unsigned processors = 0, n = 0;
    uint32_t at = 44;
    for (; at < length; at += t[at] == 0 ? 20 : 8, n++)
        processors += t[at] == 0;
    CHECK_EQ(at, length);
    CHECK_EQ(n, entries);
    CHECK_EQ(processors, 3);
}

TEST(smbios_is_found_and_ends)
{
    build(2, UINT64_C(3) << 30, UINT64_C(5) << 30);
    const uint8_t *e = find("_SM_", 0xf0000, 0x100000);
    CHECK(e != NULL && sums(e, e[5]) && sums(e + 16, e[5] - 16u));
    const uint8_t *t = image + load_u32(e + 24), *end = t + load_u16(e + 22);
    unsigned n = 0;
    uint8_t type = 0;
    while (t < end) {
        type = t[0];
        t += t[1];
        while (t[0] || t[1])
            t++;
        t += 2;
        n++;
    }
    CHECK(t == end);
    CHECK_EQ(n, load_u16(e + 28));
    CHECK_EQ(type, 127);
}

TEST(low_memory_is_as_a_bios_leaves_it)
{
    build(1, 512 << 20, 0);
    CHECK_EQ(load_u16(image + 0x40e), 0x9fc0);
    CHECK_EQ(load_u16(image + 0x413), 639);
    CHECK_EQ(load_u16(image + 0x400), 0x3f8);
    for (unsigned vector = 0; vector < 256; vector++) {
        uint32_t handler = load_u16(image + 4 * vector) + load_u16(image + 4 * vector + 2) * 16u;
        CHECK_EQ(image[handler], 0xcf); /* IRET */
    }
    CHECK_EQ(image[0xffff0], 0xea); /* the reset vector jumps */
}

TEST(the_memory_map_is_sorted_and_holds_all_of_ram)
{
    static const uint64_t sizes[] = {1 << 20, 64 << 20, UINT64_C(3) << 30, UINT64_C(8) << 30};
    for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
        const struct machine_config c = {.memory = sizes[i], .cpus = 1, .engine = &engine_emulate};
        struct machine *m;
        struct error err = {0};
        if (!machine_create(&m, &c, &err)) {
            printf("# %s\n", err.text);
            CHECK(false);
            continue;
        }
        struct boot_range map[MACHINE_E820_MAX];
        unsigned n = machine_e820(m, map);
        uint64_t ram = 0;
        for (unsigned r = 0; r < n; r++) {
            CHECK(r == 0 || map[r].gpa >= map[r - 1].gpa + map[r - 1].size);
            CHECK(map[r].size > 0);
            if (map[r].type != BOOT_RANGE_RAM)
                continue;
            ram += map[r].size;
            CHECK(memory_hva(machine_memory(m), map[r].gpa) != NULL);
            CHECK(memory_hva(machine_memory(m), map[r].gpa + map[r].size - 1) != NULL);
        }
        /* All but the EBDA, the video window and firmware's part of the first MiB. */
        CHECK_EQ(ram, sizes[i] - (0x100000 - MAP_EBDA));
        machine_destroy(m);
    }
}

TESTS(T(acpi_tables_are_found_and_sum_to_zero), T(the_madt_names_every_processor),
      T(the_mp_table_is_found_and_counts_right), T(smbios_is_found_and_ends),
      T(low_memory_is_as_a_bios_leaves_it), T(the_memory_map_is_sorted_and_holds_all_of_ram))
