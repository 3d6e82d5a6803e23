/*
 * The smallest test harness that says what failed. A test program defines its tests with TEST()
 * and lists them in TESTS(); each prints a TAP line ("ok N name", "not ok N name", with
 * "# SKIP why" behind it where it was skipped) that test/run.py counts.
 */
#ifndef DOPPEL_TEST_H
#define DOPPEL_TEST_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct test {
    const char *name;
    void (*run)(void);
};

static __attribute__((unused)) bool test_failed;
static __attribute__((unused)) const char *test_skipped;

#define TEST(name) static void name(void)

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            printf("# %s:%d: %s is false\n", __FILE__, __LINE__, #cond);                           \
            test_failed = true;                                                                    \
        }                                                                                          \
    } while (0)

#define CHECK_EQ(got, want)                                                                        \
    do {                                                                                           \
        uint64_t got_ = (uint64_t)(got), want_ = (uint64_t)(want);                                 \
        if (got_ != want_) {                                                                       \
            printf("# %s:%d: %s is 0x%llx, not 0x%llx\n", __FILE__, __LINE__, #got,                \
                   (unsigned long long)got_, (unsigned long long)want_);                           \
            test_failed = true;                                                                    \
        }                                                                                          \
    } while (0)

/* Ends the running test as skipped; why is a sentence for a person. */
#define SKIP(why)                                                                                  \
    do {                                                                                           \
        test_skipped = (why);                                                                      \
        return;                                                                                    \
    } while (0)

#define TESTS(...)                                                                                 \
    int main(void)                                                                                 \
    {                                                                                              \
        static const struct test tests[] = {__VA_ARGS__};                                          \
        unsigned n = sizeof tests / sizeof tests[0], failed = 0;                                   \
        printf("1..%u\n", n);                                                                      \
        for (unsigned i = 0; i < n; i++) {                                                         \
            test_failed = false;                                                                   \
            test_skipped = NULL;                                                                   \
            tests[i].run();                                                                        \
            printf("%s %u %s%s%s\n", test_failed ? "not ok" : "ok", i + 1, tests[i].name,          \
                   test_skipped && !test_failed ? " # SKIP " : "",                                 \
                   test_skipped && !test_failed ? test_skipped : "");                              \
            fflush(stdout);                                                                        \
            failed += test_failed;                                                                 \
        }                                                                                          \
        return failed != 0;                                                                        \
    }

/* clang-format would read #name as a directive. */
/* clang-format off */
#define T(name) { #name, name }
/* clang-format on */

#endif
