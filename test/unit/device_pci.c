#include "device/pci.h"

#include "device/q35.h"
#include "device_fixture.h"

static struct bus io, memory;
static struct pci_bus pci;
static struct q35 q35;
static struct pci_function nic;
static unsigned resets, full_resets;
static uint16_t pic_lines;
static uint32_t gsi_lines;
static struct {
    uint64_t address;
    uint32_t data;
    unsigned count;
} msi;

enum { NIC = PCI_DEVFN(3, 0) };

static void on_reset(void *ctx, bool full)
{
    resets++;
    full_resets += full;
}

static void on_msi(void *ctx, uint64_t address, uint32_t data)
{
    msi.address = address;
    msi.data = data;
    msi.count++;
}

static void on_pic(void *ctx, unsigned irq, bool level)
{
    pic_lines = (uint16_t)((pic_lines & ~(1u << irq)) | (unsigned)level << irq);
}

static void on_gsi(void *ctx, unsigned gsi, bool level)
{
    gsi_lines = (gsi_lines & ~(1u << gsi)) | (unsigned)level << gsi;
}

static uint64_t nic_read(void *device, uint64_t offset, unsigned size)
{
    return 0x4e494300 + offset;
}

static void nic_write(void *device, uint64_t offset, unsigned size, uint64_t value) {}

static uint64_t table_read(void *device, uint64_t offset, unsigned size)
{
    return offset < 0x800 ? pci_msix_read(&nic, offset, size)
                          : pci_msix_read_pending(&nic, offset - 0x800, size);
}

static void table_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    if (offset < 0x800)
        pci_msix_write(&nic, offset, size, value);
}

static const struct bus_ops nic_ops = {nic_read, nic_write, 0};
static const struct bus_ops table_ops = {table_read, table_write, 0};

static void describe(struct pci_function *f)
{
    pci_function_init(f, "nic", 0x1af4, 0x1041, 0x020000, 1);
    pci_set_subsystem(f, 0x1af4, 0x0001);
    pci_set_bar(f, 0, PCI_BAR_IO, 0x20, &nic_ops, NULL);
    pci_set_bar(f, 1, PCI_BAR_MEMORY, 0x1000, &table_ops, NULL);
    pci_set_bar(f, 4, PCI_BAR_MEMORY64, 0x3000, &nic_ops, NULL); /* rounded up to 16 KiB */
    pci_set_pin(f, 1);
    pci_add_msi(f, 4);
    pci_add_msix(f, 8, 1, 0, 0x800);
}

static void setup(void)
{
    io = memory = (struct bus){0};
    resets = full_resets = 0;
    pic_lines = 0;
    gsi_lines = 0;
    memset(&msi, 0, sizeof msi);
    q35_init(&q35, (struct irq_line){on_pic, NULL, 0}, (struct irq_line){on_gsi, NULL, 0});
    pci_bus_init(&pci, &io, &memory, (struct irq_line){q35_pirq, &q35, 0},
                 (struct msi_target){on_msi, NULL}, on_reset, NULL);
    CHECK(pci_bus_attach(&pci, NULL));
    CHECK(q35_add(&q35, &pci, NULL));
    describe(&nic);
    CHECK(pci_add(&pci, &nic, NIC, NULL));
    CHECK(pci_assign(&pci, q35_pirq_irq, NULL));
}

static void point(unsigned devfn, unsigned reg)
{
    bus_write(&io, 0xcf8, 4, 0x80000000 | devfn << 8 | (reg & 0xfc));
}

static uint32_t get(unsigned devfn, unsigned reg, unsigned size)
{
    point(devfn, reg);
    return (uint32_t)bus_read(&io, 0xcfc + (reg & 3), size);
}

static void put(unsigned devfn, unsigned reg, unsigned size, uint32_t value)
{
    point(devfn, reg);
    bus_write(&io, 0xcfc + (reg & 3), size, value);
}

/* ---- configuration ---- */

TEST(mechanism_1_in_every_size)
{
    setup();
    CHECK_EQ(get(0, 0, 4), 0x29c08086);
    CHECK_EQ(get(0, 0, 2), 0x8086);
    CHECK_EQ(get(0, 2, 2), 0x29c0);
    CHECK_EQ(get(0, 1, 1), 0x80);
    CHECK_EQ(get(Q35_LPC_DEVFN, 0, 4), 0x29188086);
    CHECK_EQ(get(Q35_LPC_DEVFN, 0x0a, 2), 0x0601);
    CHECK_EQ(get(Q35_LPC_DEVFN, 0x40, 4), 0x601);
    CHECK_EQ(get(PCI_DEVFN(9, 0), 0, 4), 0xffffffff);
    CHECK_EQ(bus_read(&io, 0xcf8, 4), 0x80000000 | PCI_DEVFN(9, 0) << 8);
    bus_write(&io, 0xcf8, 4, 0x80010000); /* bus 1 */
    CHECK_EQ(bus_read(&io, 0xcfc, 4), 0xffffffff);
    bus_write(&io, 0xcf8, 4, 0); /* disabled */
    CHECK_EQ(bus_read(&io, 0xcfc, 4), 0xffffffff);
    point(0, 0);
    CHECK_EQ(bus_read(&io, 0xcfd, 2), 0xc080); /* within the double word */
}

TEST(byte_accesses_are_not_config_address)
{
    setup();
    point(NIC, 0);
    bus_write(&io, 0xcfb, 1, 0x01); /* how Linux looks for mechanism 2 */
    bus_write(&io, 0xcf8, 2, 0x1234);
    CHECK_EQ(bus_read(&io, 0xcf8, 4), 0x80000000 | NIC << 8);
    CHECK_EQ(bus_read(&io, 0xcf8, 1), 0xff);
}

TEST(reset_control)
{
    setup();
    bus_write(&io, 0xcf9, 1, 0x02);
    CHECK_EQ(resets, 0);
    bus_write(&io, 0xcf9, 1, 0x06);
    CHECK_EQ(resets, 1);
    CHECK_EQ(full_resets, 0);
    bus_write(&io, 0xcf9, 1, 0x06); /* no rising edge */
    CHECK_EQ(resets, 1);
    bus_write(&io, 0xcf9, 1, 0x00);
    bus_write(&io, 0xcf9, 1, 0x0e);
    CHECK_EQ(full_resets, 1);
    CHECK_EQ(bus_read(&io, 0xcf9, 1), 0x0e);
}

TEST(ecam_shows_the_same)
{
    setup();
    uint64_t at = PCI_ECAM_BASE + (NIC << 12);
    CHECK_EQ(bus_read(&memory, at, 4), 0x10411af4);
    CHECK_EQ(bus_read(&memory, at + 2, 2), 0x1041);
    bus_write(&memory, at + PCI_INTERRUPT_LINE, 1, 0x42);
    CHECK_EQ(get(NIC, PCI_INTERRUPT_LINE, 1), 0x42);
    CHECK_EQ(bus_read(&memory, at + 0x100, 4), 0xffffffff); /* no extended space */
    CHECK_EQ(bus_read(&memory, PCI_ECAM_BASE + (1 << 20), 4), 0xffffffff);
    CHECK_EQ(bus_read(&memory, at, 8), UINT64_C(0x00100003) << 32 | 0x10411af4);
    CHECK_EQ(get(0, 0x60, 4), PCI_ECAM_BASE | 1);
    bus_read(&memory, at + 0xfd, 8); /* over the end */
}

TEST(read_only_stays)
{
    setup();
    put(NIC, 0, 4, 0);
    CHECK_EQ(get(NIC, 0, 4), 0x10411af4);
    put(NIC, 8, 4, UINT32_MAX);
    CHECK_EQ(get(NIC, 8, 4), 0x02000001);
    put(NIC, PCI_COMMAND, 2, 0xffff);
    CHECK_EQ(get(NIC, PCI_COMMAND, 2), 0x547);
    put(Q35_LPC_DEVFN, 0x40, 4, 0);
    CHECK_EQ(get(Q35_LPC_DEVFN, 0x40, 4), 0x601);
}

/* ---- BARs ---- */

TEST(bars_are_sized_and_placed)
{
    setup();
    put(NIC, PCI_COMMAND, 2, 0);
    put(NIC, 0x10, 4, UINT32_MAX);
    CHECK_EQ(get(NIC, 0x10, 4), 0xffffffe1);
    put(NIC, 0x14, 4, UINT32_MAX);
    CHECK_EQ(get(NIC, 0x14, 4), 0xfffff000);
    put(NIC, 0x18, 4, UINT32_MAX);
    CHECK_EQ(get(NIC, 0x18, 4), 0);
    put(NIC, 0x20, 4, UINT32_MAX);
    put(NIC, 0x24, 4, UINT32_MAX);
    CHECK_EQ(get(NIC, 0x20, 4), 0xffffc004);
    CHECK_EQ(get(NIC, 0x24, 4), 0xffffffff);
    put(NIC, 0x10, 4, 0x7000);
    put(NIC, 0x20, 4, 0x40000000);
    put(NIC, 0x24, 4, 0x00000002); /* above 4 GiB */
    CHECK(!bus_find(&io, 0x7000));
    put(NIC, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
    CHECK_EQ(bus_read(&io, 0x7004, 4), 0x4e494304);
    CHECK_EQ(bus_read(&memory, 0x240000010, 4), 0x4e494310);
    put(NIC, 0x10, 4, 0x7100); /* moved while decoded */
    CHECK(!bus_find(&io, 0x7004));
    CHECK(bus_find(&io, 0x7104));
    put(NIC, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    CHECK(!bus_find(&io, 0x7104));
}

TEST(firmware_assigns_what_fits)
{
    setup();
    uint32_t port = get(NIC, 0x10, 4), mem = get(NIC, 0x14, 4), mem64 = get(NIC, 0x20, 4);
    CHECK_EQ(port & 0x1f, 1);
    CHECK(bus_find(&io, port & ~3u) != NULL);
    CHECK(mem >= PCI_MEMORY_BASE && bus_find(&memory, mem) != NULL);
    CHECK_EQ(mem64 & 0x3fff, 4);
    CHECK_EQ(get(NIC, PCI_INTERRUPT_LINE, 1), q35_pirq_irq[pci_pirq(NIC, 1)]);
    static struct pci_function huge;
    struct error err = {0};
    pci_function_init(&huge, "huge", 1, 1, 0, 0);
    pci_set_bar(&huge, 0, PCI_BAR_MEMORY, 1 << 29, &nic_ops, NULL);
    CHECK(pci_add(&pci, &huge, PCI_DEVFN(4, 0), NULL));
    CHECK(!pci_assign(&pci, q35_pirq_irq, &err));
    CHECK(strstr(err.text, "huge") != NULL);
    CHECK(!pci_add(&pci, &huge, NIC, &err)); /* taken */
    pci_remove(&huge);
}

TEST(overlapping_bars_wait)
{
    setup();
    put(NIC, 0x14, 4, 0xe0000000); /* on the ECAM window */
    CHECK_EQ(bus_read(&memory, PCI_ECAM_BASE, 4), 0x29c08086);
    put(NIC, 0x14, 4, 0xf8000000);
    CHECK(bus_find(&memory, 0xf8000000) != NULL);
    put(NIC, 0x10, 4, 0xfff1); /* runs over the end of the ports */
    put(NIC, 0x10, 4, 0x1);    /* address 0 is nowhere */
    CHECK(!bus_find(&io, 0));
}

TEST(reset_takes_bars_away)
{
    setup();
    uint32_t port = get(NIC, 0x10, 4) & ~3u;
    pci_set_intx(&nic, true);
    pci_bus_reset(&pci);
    CHECK(!bus_find(&io, port));
    CHECK_EQ(get(NIC, 0x10, 4), 1);
    CHECK_EQ(get(NIC, PCI_COMMAND, 2), 0);
    CHECK_EQ(gsi_lines, 0);
    CHECK(pci_assign(&pci, q35_pirq_irq, NULL));
    CHECK(bus_find(&io, port) != NULL);
}

/* ---- interrupts ---- */

TEST(intx_to_both_controllers)
{
    setup();
    unsigned pirq = pci_pirq(NIC, 1), irq = q35_pirq_irq[pirq];
    pci_set_intx(&nic, true);
    CHECK_EQ(gsi_lines, 1u << (16 + pirq));
    CHECK_EQ(pic_lines, 1u << irq);
    CHECK_EQ(get(NIC, PCI_STATUS, 2) & 8, 8);
    /* The guest routes it elsewhere, to nowhere, and to an input that is not allowed. */
    put(Q35_LPC_DEVFN, 0x60 + pirq, 1, 5);
    CHECK_EQ(pic_lines, 1u << 5);
    put(Q35_LPC_DEVFN, 0x60 + pirq, 1, 0x80);
    CHECK_EQ(pic_lines, 0);
    put(Q35_LPC_DEVFN, 0x60 + pirq, 1, 0);
    CHECK_EQ(pic_lines, 0);
    put(NIC, PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE);
    CHECK_EQ(gsi_lines, 0);
    CHECK_EQ(get(NIC, PCI_STATUS, 2) & 8, 8); /* the request itself still shows */
    put(NIC, PCI_COMMAND, 2, 0);
    CHECK_EQ(gsi_lines, 1u << (16 + pirq));
    pci_set_intx(&nic, false);
    CHECK_EQ(gsi_lines, 0);
}

TEST(shared_lines_are_ored)
{
    setup();
    static struct pci_function other;
    pci_function_init(&other, "other", 1, 1, 0, 0);
    pci_set_pin(&other, 1);
    CHECK(pci_add(&pci, &other, PCI_DEVFN(11, 0), NULL)); /* eight further: the same PIRQ */
    CHECK_EQ(pci_pirq(PCI_DEVFN(11, 0), 1), pci_pirq(NIC, 1));
    pci_set_intx(&nic, true);
    pci_set_intx(&other, true);
    pci_set_intx(&nic, false);
    CHECK(gsi_lines != 0);
    pci_set_intx(&other, false);
    CHECK_EQ(gsi_lines, 0);
}

static unsigned capability(unsigned devfn, uint8_t id)
{
    unsigned at = get(devfn, PCI_CAPABILITIES, 1);
    for (unsigned n = 0; at && n < 48; n++, at = get(devfn, at + 1, 1))
        if (get(devfn, at, 1) == id)
            return at;
    return 0;
}

TEST(msi_vectors_and_masks)
{
    setup();
    unsigned cap = capability(NIC, PCI_CAP_MSI);
    CHECK(cap != 0);
    CHECK_EQ(get(NIC, PCI_STATUS, 2) & 0x10, 0x10);
    CHECK_EQ(get(NIC, cap + 2, 2), 0x0184); /* four vectors, 64 bits, masks */
    put(NIC, cap + 4, 4, 0xfee01000);
    put(NIC, cap + 8, 4, 0);
    put(NIC, cap + 12, 2, 0x4040);
    pci_msi_send(&nic, 0);
    CHECK_EQ(msi.count, 0);     /* off */
    put(NIC, cap + 2, 2, 0x21); /* on, four granted */
    pci_msi_send(&nic, 0);
    CHECK_EQ(msi.count, 0); /* not a bus master */
    put(NIC, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
    pci_msi_send(&nic, 3);
    CHECK_EQ(msi.count, 1);
    CHECK_EQ(msi.address, 0xfee01000);
    CHECK_EQ(msi.data, 0x4043);
    put(NIC, cap + 16, 4, 0x2);
    pci_msi_send(&nic, 1);
    CHECK_EQ(msi.count, 1);
    CHECK_EQ(get(NIC, cap + 20, 4), 2); /* pending */
    put(NIC, cap + 16, 4, 0);
    CHECK_EQ(msi.count, 2);
    CHECK_EQ(msi.data, 0x4041);
    CHECK_EQ(get(NIC, cap + 20, 4), 0);
    pci_set_intx(&nic, true);
    CHECK_EQ(gsi_lines, 0);     /* MSI stands in for the pin */
    put(NIC, cap + 2, 2, 0x71); /* more granted than asked for */
    pci_msi_send(&nic, 5);
    CHECK_EQ(msi.data, 0x4041);
}

TEST(msix_table)
{
    setup();
    unsigned cap = capability(NIC, PCI_CAP_MSIX);
    uint64_t table = get(NIC, 0x14, 4);
    CHECK_EQ(get(NIC, cap + 2, 2), 7);
    CHECK_EQ(get(NIC, cap + 4, 4), 1);
    CHECK_EQ(get(NIC, cap + 8, 4), 0x801);
    put(NIC, PCI_COMMAND, 2, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY);
    put(NIC, cap + 2, 2, 0x8000);
    CHECK_EQ(bus_read(&memory, table + 0x2c, 4), 1); /* masked at first */
    bus_write(&memory, table + 0x20, 8, 0xfee02000);
    bus_write(&memory, table + 0x28, 4, 0x55);
    pci_msix_send(&nic, 2);
    CHECK_EQ(msi.count, 0);
    CHECK_EQ(bus_read(&memory, table + 0x800, 4), 4);
    bus_write(&memory, table + 0x2c, 4, 0);
    CHECK_EQ(msi.count, 1);
    CHECK_EQ(msi.address, 0xfee02000);
    CHECK_EQ(msi.data, 0x55);
    CHECK_EQ(bus_read(&memory, table + 0x800, 4), 0);
    put(NIC, cap + 2, 2, 0xc000); /* the whole function masked */
    pci_msix_send(&nic, 2);
    CHECK_EQ(msi.count, 1);
    put(NIC, cap + 2, 2, 0x8000);
    CHECK_EQ(msi.count, 2);
    pci_msix_send(&nic, 8);                 /* no such vector */
    bus_write(&memory, table + 0x7f, 4, 1); /* past the table, unaligned */
    bus_write(&memory, table + 0x21, 1, 0xff);
    CHECK_EQ(bus_read(&memory, table + 0x20, 4), 0xfee02000);
    CHECK_EQ(msi.count, 2);
}

TEST(capabilities_end)
{
    setup();
    static struct pci_function f;
    pci_function_init(&f, "f", 1, 1, 0, 0);
    unsigned n = 0;
    while (pci_add_capability(&f, PCI_CAP_VENDOR, 20))
        n++;
    CHECK_EQ(n, (256 - 64) / 20);
    CHECK(!pci_add_msi(&f, 3));
    CHECK(!pci_add_msix(&f, PCI_MSIX_VECTORS + 1, 0, 0, 0));
}

TEST(survives_save_and_load)
{
    setup();
    put(NIC, 0x10, 4, 0x7001);
    unsigned cap = capability(NIC, PCI_CAP_MSIX);
    put(NIC, PCI_COMMAND, 2, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
    put(NIC, cap + 2, 2, 0x8000);
    pci_msix_send(&nic, 1);
    static struct bus io2, memory2;
    static struct pci_bus pci2;
    static struct pci_function nic2;
    io2 = memory2 = (struct bus){0};
    pci_bus_init(&pci2, &io2, &memory2, (struct irq_line){0}, (struct msi_target){on_msi, NULL},
                 on_reset, NULL);
    describe(&nic2);
    CHECK(pci_add(&pci2, &nic2, NIC, NULL));
    CHECK(fixture_round_trip(&pci_function_archive, &nic, &nic2));
    CHECK(fixture_round_trip(&pci_bus_archive, &pci, &pci2));
    CHECK(bus_find(&io2, 0x7000) != NULL); /* mapped where it was */
    CHECK_EQ(nic2.msix.pending, 2);
    /* What a guest could not have written is not taken from the archive. */
    nic.config[0] = 0x55;
    fixture_round_trip(&pci_function_archive, &nic, &nic2);
    CHECK_EQ(nic2.config[0], 0xf4);
}

TESTS(T(mechanism_1_in_every_size), T(byte_accesses_are_not_config_address), T(reset_control),
      T(ecam_shows_the_same), T(read_only_stays), T(bars_are_sized_and_placed),
      T(firmware_assigns_what_fits), T(overlapping_bars_wait), T(reset_takes_bars_away),
      T(intx_to_both_controllers), T(shared_lines_are_ored), T(msi_vectors_and_masks),
      T(msix_table), T(capabilities_end), T(survives_save_and_load))
