/*
 * The parts of images by themselves: archives, names, digests, users, logs, and file trees.
 */
#include "test.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "container/front/bundle.h"
#include "container/front/log.h"
#include "container/front/users.h"
#include "container/image/layer.h"
#include "container/image/stream.h"
#include "container/image/tree.h"

static char folder_path[32];

static int make_folder(void)
{
    strcpy(folder_path, "/tmp/doppel-unit-XXXXXX");
    int fd = mkdtemp(folder_path) ? open(folder_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    CHECK(fd >= 0);
    return fd;
}

static void remove_folder(int fd)
{
    struct error err = {0};
    CHECK(tree_remove_content(fd, &err));
    close(fd);
    CHECK(rmdir(folder_path) == 0);
}

/* ---- digests and streams ---- */

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

TEST(digests_are_those_of_the_standard)
{
    struct digest d;
    digest_of(&d, "", 0);
    CHECK(strcmp(d.hex, EMPTY) == 0);
    digest_of(&d, "abc", 3); /* FIPS 180-4's example */
    CHECK(strcmp(d.hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad") == 0);
}

TEST(digests_are_parsed_strictly)
{
    struct digest d, e;
    struct error err = {0};
    CHECK(digest_parse(&d, "sha256:" EMPTY, &err));
    CHECK(digest_parse(
        &e, "sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855", &err));
    CHECK(digest_equal(&d, &e));
    static const char *const wrong[] = {"",
                                        "sha256:",
                                        "sha256:" EMPTY "0",
                                        "sha512:" EMPTY,
                                        EMPTY,
                                        "sha256:../../../etc/passwd",
                                        "SHA256:" EMPTY};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        CHECK(!digest_parse(&d, wrong[i], &err));
}

static int file_with(const void *data, size_t size)
{
    int fd = memfd_create("test", MFD_CLOEXEC);
    CHECK(write(fd, data, size) == (ssize_t)size);
    return fd;
}

TEST(a_stream_is_a_part_of_a_file)
{
    struct stream s;
    struct error err = {0};
    struct digest stored, plain;
    char text[16] = "";
    int fd = file_with("0123456789", 10);
    CHECK(stream_open(&s, "x", fd, 2, 5, true, &err));
    CHECK_EQ(stream_read(&s, text, sizeof text, &err), 5);
    CHECK(memcmp(text, "23456", 5) == 0);
    CHECK(stream_finish(&s, &stored, &plain, &err) && digest_equal(&stored, &plain));
    stream_close(&s);
    CHECK(stream_open(&s, "x", fd, 8, 2, false, &err)); /* nothing is behind its end */
    CHECK(stream_skip(&s, 2, &err) && !stream_skip(&s, 1, &err));
    stream_close(&s);
    close(fd);
}

/* ---- archives ---- */

static void put_header(uint8_t *h, char type, const char *name, const char *size)
{
    unsigned sum = 8 * ' ';
    memset(h, 0, 512);
    strcpy((char *)h, name);
    strcpy((char *)h + 124, size);
    h[156] = (uint8_t)type;
    for (int i = 0; i < 512; i++)
        sum += h[i];
    sprintf((char *)h + 148, "%06o", sum);
    h[155] = ' ';
}

TEST(entries_are_read_one_after_the_other)
{
    uint8_t data[512 * 6] = {0};
    struct stream s;
    struct error err = {0};
    const struct tar_entry *e = NULL;
    char text[8] = "";
    put_header(data, '0', "first", "00000000003");
    memcpy(data + 512, "abc", 3);
    put_header(data + 1024, '5', "second/", "0");
    int fd = file_with(data, sizeof data);
    CHECK(stream_open(&s, "x", fd, 0, sizeof data, false, &err));
    struct tar *t = tar_open(&s, &err);
    CHECK(tar_next(t, &e, &err) && e && e->type == TAR_FILE && e->size == 3);
    CHECK(strcmp(e->name, "first") == 0);
    CHECK_EQ(tar_offset(t), 512);
    CHECK_EQ(tar_read(t, text, 2, &err), 2);
    CHECK(tar_next(t, &e, &err) && e && e->type == TAR_FOLDER);
    CHECK(tar_next(t, &e, &err) && !e);
    tar_close(t);
    stream_close(&s);
    close(fd);
}

TEST(sizes_beyond_the_archive_are_refused)
{
    static const char *const sizes[] = {"77777777777",
                                        "\200\0\0\0\177\377\377\377\377\377\377\377"};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        uint8_t data[512 * 3] = {0};
        struct stream s;
        struct error err = {0};
        const struct tar_entry *e = NULL;
        put_header(data, '0', "x", "");
        memcpy(data + 124, sizes[i], i ? 12 : 11);
        unsigned sum = 8 * ' ';
        for (int n = 0; n < 512; n++)
            sum += n >= 148 && n < 156 ? 0 : data[n];
        sprintf((char *)data + 148, "%06o", sum);
        int fd = file_with(data, sizeof data);
        CHECK(stream_open(&s, "x", fd, 0, sizeof data, true, &err));
        struct tar *t = tar_open(&s, &err);
        CHECK(!(tar_next(t, &e, &err) && tar_next(t, &e, &err)));
        CHECK(err.text[0]);
        tar_close(t);
        stream_close(&s);
        close(fd);
    }
}

TEST(names_have_one_form)
{
    static const char *const forms[][2] = {
        {"/a//b/./c/", "a/b/c"}, {"./", ""}, {"", ""}, {"...", "..."}, {"a/..b", "a/..b"}};
    char path[TAR_PATH_MAX + 1];
    struct error err = {0};
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        CHECK(layer_path(forms[i][0], path, &err));
        CHECK(strcmp(path, forms[i][1]) == 0);
    }
    CHECK(!layer_path("..", path, &err) && !layer_path("a/../b", path, &err) &&
          !layer_path("a/..", path, &err) && !layer_path("/../a", path, &err));
}

/* ---- users ---- */

static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\n"
                             "broken\n"
                             ":::::\n"
                             "big:x:4294967295:0::/:\n"
                             "bob:x:1000:1001:Bob:/home/bob:/bin/sh";
static const char group[] = "root:x:0:\nstaff:x:50:alice,bob\nnot:x:51:bobby\nwheel:x:10:bob,";

TEST(users_are_found_by_name_and_number)
{
    struct user u;
    struct error err = {0};
    CHECK(user_find_in(passwd, group, "bob", &u, &err));
    CHECK_EQ(u.uid, 1000);
    CHECK_EQ(u.gid, 1001);
    CHECK(u.group_count == 2 && u.groups[0] == 50 && u.groups[1] == 10);
    CHECK(strcmp(u.home, "/home/bob") == 0);
    CHECK(user_find_in(passwd, group, "1000", &u, &err) && u.gid == 1001);
    CHECK(user_find_in(passwd, group, "bob:staff", &u, &err) && u.gid == 50 && !u.group_count);
    CHECK(user_find_in(passwd, group, "7:8", &u, &err) && u.uid == 7 && u.gid == 8);
    CHECK(user_find_in(NULL, NULL, NULL, &u, &err) && u.uid == 0 && u.gid == 0);
    CHECK(user_find_in(NULL, NULL, "5", &u, &err) && u.uid == 5);
}

TEST(users_that_are_not_there_are_refused)
{
    static const char *const wrong[] = {"eve",        "big", "4294967295", "99999999999999999999",
                                        "bob:nobody", "-1",  "broken",     "bob:"};
    struct user u;
    struct error err = {0};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        CHECK(!user_find_in(passwd, group, wrong[i], &u, &err));
}

/* ---- logs ---- */

TEST(logged_lines_come_apart_as_they_were_put_together)
{
    char text[512] = "";
    struct log_line l;
    struct log_file f = {.fd = memfd_create("log", MFD_CLOEXEC), .limit = 1 << 20};
    CHECK(log_append(&f, "stdout", "one\ntw", 6) && log_append(&f, "stderr", "o\n", 2));
    CHECK(pread(f.fd, text, sizeof text - 1, 0) > 0);
    char *second = strchr(text, '\n') + 1, *third = strchr(second, '\n') + 1;
    CHECK(log_parse(text, (size_t)(second - text) - 1, &l) && !l.partial && !l.is_error);
    CHECK(l.text_size == 3 && memcmp(l.text, "one", 3) == 0 && l.time[l.time_size - 1] == 'Z');
    CHECK(log_parse(second, (size_t)(third - second) - 1, &l) && l.partial && l.text_size == 2);
    CHECK(log_parse(third, strlen(third) - 1, &l) && l.is_error && l.text_size == 1);
    static const char *const wrong[] = {
        "", "x", "time stdout", "time stdout X text", "time other F text", "time stdout F"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        CHECK(!log_parse(wrong[i], strlen(wrong[i]), &l));
    log_close(&f);
}

/* ---- trees ---- */

TEST(paths_stay_in_the_tree)
{
    struct error err = {0};
    char link[64];
    int outer = make_folder();
    CHECK(mkdirat(outer, "in", 0755) == 0 && mkdirat(outer, "secret", 0755) == 0);
    int root = openat(outer, "in", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(symlinkat("../secret", root, "up") == 0 && symlinkat("/secret", root, "down") == 0);
    snprintf(link, sizeof link, "/proc/self/fd/%d", outer);
    CHECK(symlinkat(link, root, "magic") == 0);
    CHECK(tree_open(root, "up", O_PATH, 0) < 0 && tree_open(root, "down", O_PATH, 0) < 0);
    /* What the links lead to is made inside. */
    int made = tree_make_folders(root, "up/made", &err);
    CHECK(made >= 0 && faccessat(root, "secret/made", F_OK, 0) == 0);
    CHECK(faccessat(outer, "secret/made", F_OK, 0) != 0);
    close(made);
    close(root);
    remove_folder(outer);
}

TEST(links_that_go_round_end)
{
    struct error err = {0};
    int root = make_folder();
    CHECK(symlinkat("b/x", root, "a") == 0 && symlinkat("a/x", root, "b") == 0);
    CHECK(tree_make_folders(root, "a/b/c", &err) < 0 && err.text[0]);
    remove_folder(root);
}

TEST(trees_of_any_depth_are_removed)
{
    struct error err = {0};
    int root = make_folder(), at = dup(root);
    for (int i = 0; i < 5000 && at >= 0; i++) {
        CHECK(mkdirat(at, "deep", 0755) == 0);
        int next = openat(at, "deep", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        close(at);
        at = next;
    }
    CHECK(at >= 0);
    close(at);
    CHECK(tree_remove(root, "deep", &err) && faccessat(root, "deep", F_OK, 0) != 0);
    remove_folder(root);
}

TEST(removing_follows_no_link)
{
    struct error err = {0};
    int root = make_folder();
    CHECK(mkdirat(root, "kept", 0755) == 0 && mkdirat(root, "kept/in", 0755) == 0);
    CHECK(mkdirat(root, "gone", 0755) == 0 && symlinkat("../kept", root, "gone/link") == 0);
    CHECK(tree_remove(root, "gone", &err) && faccessat(root, "kept/in", F_OK, 0) == 0);
    CHECK(tree_remove(root, "was never there", &err));
    remove_folder(root);
}

/* ---- the environment ---- */

TEST(variables_take_the_place_of_older_ones)
{
    struct strings env = {0};
    struct error err = {0};
    CHECK(bundle_env_set(&env, "A=1", &err) && bundle_env_set(&env, "AB=2", &err));
    CHECK(bundle_env_set(&env, "A=3", &err) && env.count == 2);
    CHECK(strcmp(env.items[0], "A=3") == 0 && bundle_env_has(&env, "AB"));
    CHECK(!bundle_env_has(&env, "B"));
    strings_free(&env);
}

TESTS(T(digests_are_those_of_the_standard), T(digests_are_parsed_strictly),
      T(a_stream_is_a_part_of_a_file), T(entries_are_read_one_after_the_other),
      T(sizes_beyond_the_archive_are_refused), T(names_have_one_form),
      T(users_are_found_by_name_and_number), T(users_that_are_not_there_are_refused),
      T(logged_lines_come_apart_as_they_were_put_together), T(paths_stay_in_the_tree),
      T(links_that_go_round_end), T(trees_of_any_depth_are_removed), T(removing_follows_no_link),
      T(variables_take_the_place_of_older_ones))
