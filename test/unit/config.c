/*
 * A machine's configuration, option by option.
 */
#include "lib/config.h"
#include "test.h"

static bool sets(struct config *c, const char *name, const char *value)
{
    struct error err = {0};
    bool ok = config_set(c, name, value, &err);
    CHECK(ok == (err.status == EXIT_STATUS_OK));
    return ok;
}

TEST(sizes_have_units)
{
    static const struct {
        const char *text;
        uint64_t bytes; /* 0: refused */
    } cases[] = {
        {"512M", 512ull << 20},
        {"2g", 2ull << 30},
        {"1T", 1ull << 40},
        {"4096K", 4 << 20},
        {"64", 64 << 20},
        {"", 0},
        {"M", 0},
        {"-1M", 0},
        {"1MB", 0},
        {"1.5G", 0},
        {"0x10M", 0},
        {" 1M", 0},
        {"1 M", 0},
        {"16777216T", 0},
        {"99999999999999999999M", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t bytes = 0;
        bool ok = config_size(cases[i].text, &bytes);
        CHECK(ok == (cases[i].bytes != 0));
        CHECK_EQ(bytes, cases[i].bytes);
    }
}

TEST(the_last_setting_holds)
{
    struct config c;
    config_init(&c);
    CHECK(sets(&c, "kernel", "first"));
    CHECK(sets(&c, "kernel", "second"));
    CHECK(strcmp(c.kernel, "second") == 0);
    CHECK(sets(&c, "cpus", "16"));
    CHECK(!sets(&c, "cpus", "17"));
    CHECK(sets(&c, "switch-every", "250ms,emulate"));
    CHECK_EQ(c.switch_every_ns, 250000000);
    CHECK(c.switch_among && strcmp(c.switch_among, "emulate") == 0);
    CHECK(sets(&c, "switch-every", "2s"));
    CHECK_EQ(c.switch_every_ns, UINT64_C(2000000000));
    CHECK(!c.switch_among);
    CHECK_EQ(c.cpus, 16);
    config_free(&c);
}

TEST(modules_add_up)
{
    struct config c;
    char many[16];
    config_init(&c);
    CHECK(sets(&c, "module", "one"));
    CHECK(sets(&c, "module", "two,with args,and more"));
    CHECK_EQ(c.module_count, 2);
    CHECK(strcmp(c.module[0].path, "one") == 0 && !c.module[0].args);
    CHECK(strcmp(c.module[1].path, "two") == 0);
    CHECK(strcmp(c.module[1].args, "with args,and more") == 0);
    while (c.module_count < CONFIG_MODULES && !test_failed) {
        snprintf(many, sizeof many, "m%u", c.module_count);
        CHECK(sets(&c, "module", many));
    }
    CHECK(!sets(&c, "module", "one too many"));
    config_free(&c);
}

TEST(values_are_demanded_and_refused)
{
    struct config c;
    config_init(&c);
    CHECK(!sets(&c, "kernel", NULL));
    CHECK(!sets(&c, "no-reboot", "yes"));
    CHECK(sets(&c, "no-reboot", NULL));
    CHECK(!sets(&c, "no-such-option", NULL));
    CHECK(c.no_reboot && !c.debug_exit);
    config_free(&c);
}

TEST(a_machine_needs_a_kernel)
{
    struct config c;
    struct error err = {0};
    config_init(&c);
    CHECK(!config_check(&c, &err));
    CHECK_EQ(err.status, EXIT_STATUS_USAGE);
    CHECK(sets(&c, "kernel", "vmlinuz"));
    CHECK(config_check(&c, &err));
    config_free(&c);
}

TESTS(T(sizes_have_units), T(the_last_setting_holds), T(modules_add_up),
      T(values_are_demanded_and_refused), T(a_machine_needs_a_kernel))
