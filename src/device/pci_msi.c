/* MSI and MSI-X (PCI 3.0, 6.8). */
#include "base/bits.h"
#include "device/pci.h"

/* Offsets in the MSI capability: 64-bit address, per-vector masks. */
enum { MSI_CONTROL = 2, MSI_ADDRESS = 4, MSI_DATA = 12, MSI_MASK = 16, MSI_PENDING = 20 };
enum { MSI_SIZE = 24 };
enum { MSI_ENABLE = 1u << 0, MSI_64 = 1u << 7, MSI_MASKING = 1u << 8 };

/* Offsets in the MSI-X capability, and in an entry of its table (in words). */
enum { MSIX_CONTROL = 2, MSIX_TABLE = 4, MSIX_PBA = 8, MSIX_SIZE = 12 };
enum { MSIX_FUNCTION_MASK = 1u << 14, MSIX_ENABLE = 1u << 15 };
enum { ENTRY_ADDRESS, ENTRY_ADDRESS_HIGH, ENTRY_DATA, ENTRY_CONTROL, ENTRY_WORDS };
enum { ENTRY_MASKED = 1u << 0 };

static unsigned msi_control(const struct pci_function *f)
{
    return (unsigned)pci_get(f->config, f->msi_cap + MSI_CONTROL, 2);
}

static unsigned msix_control(const struct pci_function *f)
{
    return (unsigned)pci_get(f->config, f->msix.cap + MSIX_CONTROL, 2);
}

bool pci_msi_enabled(const struct pci_function *f)
{
    return f->msi_cap && (msi_control(f) & MSI_ENABLE);
}

bool pci_msix_enabled(const struct pci_function *f)
{
    return f->msix.cap && (msix_control(f) & MSIX_ENABLE);
}

/* A message is a write of the function's own to memory: it needs to be allowed those. */
static bool msi_allowed(const struct pci_function *f)
{
    return f->bus && f->bus->msi.send && (f->config[PCI_COMMAND] & PCI_COMMAND_MASTER);
}

/* ---- MSI ---- */

bool pci_add_msi(struct pci_function *f, unsigned vectors)
{
    if (vectors < 1 || vectors > 32 || (vectors & (vectors - 1)))
        return false;
    unsigned cap = pci_add_capability(f, PCI_CAP_MSI, MSI_SIZE);
    if (!cap)
        return false;
    unsigned log = (unsigned)__builtin_ctz(vectors);
    pci_put(f->config, cap + MSI_CONTROL, 2, MSI_64 | MSI_MASKING | log << 1);
    pci_put(f->writable, cap + MSI_CONTROL, 2, MSI_ENABLE | 7 << 4);
    pci_put(f->writable, cap + MSI_ADDRESS, 8, ~UINT64_C(3));
    pci_put(f->writable, cap + MSI_DATA, 2, 0xffff);
    pci_put(f->writable, cap + MSI_MASK, 4, bits_mask(vectors));
    f->msi_cap = cap;
    return true;
}

void pci_msi_send(struct pci_function *f, unsigned vector)
{
    if (!pci_msi_enabled(f) || !msi_allowed(f))
        return;
    /* Vectors granted, which may be fewer than asked for (or, from a careless guest, more). */
    unsigned asked = msi_control(f) >> 1 & 7, granted = msi_control(f) >> 4 & 7;
    unsigned count = 1u << (granted < asked ? granted : asked);
    vector &= count - 1;
    if (pci_get(f->config, f->msi_cap + MSI_MASK, 4) >> vector & 1) {
        f->msi_pending |= BIT(vector);
    } else {
        f->msi_pending &= ~BIT(vector);
        uint32_t data = (uint32_t)pci_get(f->config, f->msi_cap + MSI_DATA, 2);
        f->bus->msi.send(f->bus->msi.ctx, pci_get(f->config, f->msi_cap + MSI_ADDRESS, 8),
                         (data & ~(count - 1)) | vector);
    }
    pci_put(f->config, f->msi_cap + MSI_PENDING, 4, f->msi_pending);
}

/* ---- MSI-X ---- */

bool pci_add_msix(struct pci_function *f, unsigned vectors, unsigned bar, uint32_t table_offset,
                  uint32_t pba_offset)
{
    if (vectors < 1 || vectors > PCI_MSIX_VECTORS || bar >= PCI_BARS)
        return false;
    unsigned cap = pci_add_capability(f, PCI_CAP_MSIX, MSIX_SIZE);
    if (!cap)
        return false;
    pci_put(f->config, cap + MSIX_CONTROL, 2, vectors - 1);
    pci_put(f->writable, cap + MSIX_CONTROL, 2, MSIX_ENABLE | MSIX_FUNCTION_MASK);
    pci_put(f->config, cap + MSIX_TABLE, 4, table_offset | bar);
    pci_put(f->config, cap + MSIX_PBA, 4, pba_offset | bar);
    f->msix.cap = cap;
    f->msix.vectors = vectors;
    pci_msi_reset(f);
    return true;
}

void pci_msix_send(struct pci_function *f, unsigned vector)
{
    if (!pci_msix_enabled(f) || vector >= f->msix.vectors || !msi_allowed(f))
        return;
    const uint32_t *entry = &f->msix.table[vector * ENTRY_WORDS];
    if ((msix_control(f) & MSIX_FUNCTION_MASK) || (entry[ENTRY_CONTROL] & ENTRY_MASKED)) {
        f->msix.pending |= BIT(vector);
        return;
    }
    f->msix.pending &= ~BIT(vector);
    f->bus->msi.send(f->bus->msi.ctx,
                     (uint64_t)entry[ENTRY_ADDRESS_HIGH] << 32 | entry[ENTRY_ADDRESS],
                     entry[ENTRY_DATA]);
}

uint64_t pci_msix_read(struct pci_function *f, uint64_t offset, unsigned size)
{
    uint64_t bytes = (uint64_t)f->msix.vectors * ENTRY_WORDS * 4;
    if (offset >= bytes || size > bytes - offset)
        return 0;
    return pci_get((const uint8_t *)f->msix.table, (unsigned)offset, size);
}

/* The table is written in aligned double and quad words (PCI 3.0, 6.8.2); others do nothing. */
void pci_msix_write(struct pci_function *f, uint64_t offset, unsigned size, uint64_t value)
{
    uint64_t bytes = (uint64_t)f->msix.vectors * ENTRY_WORDS * 4;
    if (size < 4 || offset % size || offset >= bytes || size > bytes - offset)
        return;
    for (unsigned i = 0; i < size / 4; i++) {
        unsigned word = (unsigned)offset / 4 + i;
        uint32_t mask = word % ENTRY_WORDS == ENTRY_CONTROL   ? ENTRY_MASKED
                        : word % ENTRY_WORDS == ENTRY_ADDRESS ? ~3u
                                                              : UINT32_MAX;
        f->msix.table[word] = (uint32_t)(value >> 32 * i) & mask;
    }
    unsigned vector = (unsigned)offset / (4 * ENTRY_WORDS);
    if (f->msix.pending >> vector & 1)
        pci_msix_send(f, vector);
}

uint64_t pci_msix_read_pending(struct pci_function *f, uint64_t offset, unsigned size)
{
    return offset >= 8 ? 0 : f->msix.pending >> 8 * offset;
}

/* ---- what pci.c tells ---- */

void pci_msi_changed(struct pci_function *f)
{
    for (unsigned i = 0; i < 32 && pci_msi_enabled(f) && f->msi_pending; i++)
        if (f->msi_pending >> i & 1)
            pci_msi_send(f, i);
    for (unsigned i = 0; i < f->msix.vectors && pci_msix_enabled(f) && f->msix.pending; i++)
        if (f->msix.pending >> i & 1)
            pci_msix_send(f, i);
}

void pci_msi_reset(struct pci_function *f)
{
    f->msi_pending = 0;
    f->msix.pending = 0;
    memset(f->msix.table, 0, sizeof f->msix.table);
    for (unsigned i = 0; i < f->msix.vectors; i++)
        f->msix.table[i * ENTRY_WORDS + ENTRY_CONTROL] = ENTRY_MASKED;
}
