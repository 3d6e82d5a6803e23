#include "container/front/root.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/bits.h"
#include "container/image/tree.h"

/* mount(2) takes one page of options. */
enum { OVERLAY_OPTIONS_MAX = 4096 };

/* A folder in the state folder, made while the store is locked. */
#define ROOT_TRIAL ".overlay-"

/* ------------------------------------------------------------------------------------------- *
 * overlayfs
 * ------------------------------------------------------------------------------------------- */

/* A mount namespace of our own, from which nothing gets out. */
static bool own_mounts(struct error *err)
{
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) != 0)
        return error_errno(err, "mount namespace: it can't be had; run as root, or use --copy");
    return true;
}

/* Mounts in the folder: upper over the layers, at rootfs. Everything is named from inside of the
 * folder: other names may hold commas and colons. A descriptor of the folder would not do: it leads
 * to the mount namespace that it was opened in. */
static bool mount_overlay(const char *folder, const char *lower, const char *more,
                          struct error *err)
{
    char options[OVERLAY_OPTIONS_MAX];
    int before = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (before < 0 || chdir(folder) != 0) {
        error_errno(err, "overlayfs: the container's folder");
        if (before >= 0)
            close(before);
        return false;
    }
    bool ok = snprintf(options, sizeof options, "lowerdir=%s,upperdir=upper,workdir=work%s", lower,
                       more) < (int)sizeof options ||
              error_set(err, "overlayfs: the image has too many layers for it; use --copy");
    if (ok && mount("overlay", "rootfs", "overlay", 0, options) != 0)
        ok = error_errno(err, "overlayfs: it can't be mounted; use --copy");
    if (fchdir(before) != 0 && ok)
        ok = error_errno(err, "overlayfs: our own folder");
    close(before);
    return ok;
}

static bool make_folders(int folder, struct error *err)
{
    static const char *const names[] = {"rootfs", "upper", "work", "layers"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (mkdirat(folder, names[i], i < 2 ? 0755 : 0700) != 0)
            return error_errno(err, "%s: a container's folder can't be made", names[i]);
    int upper = openat(folder, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = upper >= 0 && fchmod(upper, 0755) == 0; /* whatever the umask */
    if (upper >= 0)
        close(upper);
    return ok || error_errno(err, "upper: a container's folder can't be made");
}

static const char *overlay_more(const struct layer_how *how)
{
    return how->user_xattrs ? ",userxattr" : "";
}

/* In a child: whether a layer with overlayfs's marks can be made in the state folder, and mounted.
 */
static bool try_overlay(const struct front *f, const struct layer_how *how, const char *name)
{
    struct error quiet = {0};
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", f->root, name);
    int folder = openat(f->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const char *key = how->user_xattrs ? "user.overlay.opaque" : "trusted.overlay.opaque";
    if (folder < 0 || !make_folders(folder, &quiet) || mkdirat(folder, "layers/a", 0700) != 0 ||
        mkdirat(folder, "layers/b", 0700) != 0 ||
        mknodat(folder, "layers/a/gone", S_IFCHR | 0600, 0) != 0)
        return false;
    int file = openat(folder, "layers/b/gone", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    int layer = openat(folder, "layers/b", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return file >= 0 && layer >= 0 && fsetxattr(layer, key, "y", 1, 0) == 0 && own_mounts(&quiet) &&
           mount_overlay(path, "layers/a:layers/b", overlay_more(how), &quiet) &&
           faccessat(folder, "rootfs/gone", F_OK, AT_SYMLINK_NOFOLLOW) != 0;
}

static bool overlay_works(const struct front *f, const struct layer_how *how)
{
    char name[32];
    struct error quiet = {0};
    int status = 1;
    snprintf(name, sizeof name, ROOT_TRIAL "%d", (int)getpid());
    if (mkdirat(f->fd, name, 0700) != 0)
        return false;
    pid_t child = fork();
    if (child == 0)
        _exit(!try_overlay(f, how, name));
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    tree_remove(f->fd, name, &quiet);
    return child > 0 && status == 0;
}

/* ------------------------------------------------------------------------------------------- *
 * Preparing
 * ------------------------------------------------------------------------------------------- */

/* A folder with a root file system has neither of these at its top; an image layout has both. */
static bool is_layout(const char *path)
{
    char file[PATH_MAX + 16];
    struct stat st;
    snprintf(file, sizeof file, "%s/oci-layout", path);
    bool has_layout = stat(file, &st) == 0;
    snprintf(file, sizeof file, "%s/index.json", path);
    return has_layout && stat(file, &st) == 0;
}

static bool prepare_image(struct root *r, const struct front *f, const struct front_options *o,
                          struct error *err)
{
    r->is_image = true;
    r->room.bytes = o->unpack_limit;
    r->how = (struct layer_how){LAYER_OVERLAY, f->rootless, f->rootless, &r->room};
    r->image = oci_image_open(o->image, o->reference, f->fd, &r->room, err);
    if (!r->image || !image_config_copy(&r->config, &r->image->config, err))
        return false;
    if (o->copy || r->image->layer_count == 0 || !overlay_works(f, &r->how))
        return true; /* unpacked when its folder is there */
    if (!store_open(&r->store, f->fd, false, err) || !store_add(&r->store, r->image, &r->how, err))
        return false;
    for (unsigned i = 0; i < r->image->layer_count; i++)
        if (!strings_add(&r->layers, r->image->layers[i].content.hex, err))
            return false;
    return true;
}

bool root_prepare(struct root *r, const struct front *f, const struct front_options *o,
                  struct error *err)
{
    struct stat st;
    if (stat(o->image, &st) != 0)
        return error_set(err,
                         "%.200s: %s; name a folder with a root file system, an OCI image "
                         "layout or an image archive",
                         o->image, strerror(errno));
    if (!S_ISDIR(st.st_mode) || is_layout(o->image))
        return prepare_image(r, f, o, err);
    if (o->copy || o->reference)
        return error_usage(err,
                           "%.200s: a folder with a root file system is used as it is; leave "
                           "%s out",
                           o->image, o->copy ? "--copy" : "--image");
    return realpath(o->image, r->path) || error_errno(err, "%.200s", o->image);
}

/* ------------------------------------------------------------------------------------------- *
 * Mounting
 * ------------------------------------------------------------------------------------------- */

/* Short names for the layers, so that many fit into one page: l/0, l/1, ..., the topmost first as
 * overlayfs wants them. */
static bool link_layers(struct root *r, int folder, char *lower, size_t size, struct error *err)
{
    size_t n = 0;
    for (unsigned i = r->layers.count; i-- > 0;) {
        char target[112] = "../../../", name[24];
        store_path(target + 9, r->layers.items[i]);
        snprintf(name, sizeof name, "layers/%u", i);
        if (symlinkat(target, folder, name) != 0)
            return error_errno(err, "layers: a container's folder can't be filled");
        int more = snprintf(lower + n, size - n, "%s%s", n ? ":" : "", name);
        if (more < 0 || (size_t)more >= size - n)
            return error_set(err, "overlayfs: the image has too many layers for it; use --copy");
        n += (size_t)more;
    }
    return true;
}

/* All layers into one folder, each in two goes: first what it takes away, then what it adds. */
static bool unpack_flat(struct root *r, int folder, struct error *err)
{
    if (mkdirat(folder, "rootfs", 0755) != 0)
        return error_errno(err, "rootfs: a container's folder can't be made");
    int files = openat(folder, "rootfs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (files < 0)
        return error_errno(err, "rootfs: a container's folder can't be opened");
    bool ok = fchmod(files, 0755) == 0;
    struct layer_how remove = {LAYER_FLAT_REMOVE, false, r->how.rootless, NULL};
    struct layer_how add = {LAYER_FLAT_ADD, false, r->how.rootless, &r->room};
    for (unsigned i = 0; ok && i < r->image->layer_count; i++)
        ok = (i == 0 || oci_image_unpack(r->image, i, files, &remove, err)) &&
             oci_image_unpack(r->image, i, files, &add, err);
    close(files);
    return ok;
}

bool root_mount(struct root *r, const struct front *f, const char *name, int folder,
                struct error *err)
{
    char lower[OVERLAY_OPTIONS_MAX];
    if (!r->is_image)
        return true;
    snprintf(r->path, sizeof r->path, "%s/containers/%s/rootfs", f->root, name);
    char place[PATH_MAX];
    snprintf(place, sizeof place, "%s/containers/%s", f->root, name);
    bool ok;
    if (r->layers.count == 0) {
        ok = unpack_flat(r, folder, err);
    } else {
        ok = make_folders(folder, err) && link_layers(r, folder, lower, sizeof lower, err) &&
             own_mounts(err) && mount_overlay(place, lower, overlay_more(&r->how), err);
        r->mounted = ok;
    }
    oci_image_close(r->image);
    r->image = NULL;
    return ok;
}

void root_recorded(struct root *r)
{
    store_close(&r->store);
}

void root_unmount(struct root *r)
{
    if (r->mounted)
        umount2(r->path, MNT_DETACH);
    r->mounted = false;
}

void root_free(struct root *r)
{
    store_close(&r->store);
    oci_image_close(r->image);
    image_config_free(&r->config);
    strings_free(&r->layers);
    *r = (struct root)ROOT_NONE;
}

bool root_remove_leftovers(const struct front *f, struct error *err)
{
    struct strings names = {0};
    bool ok = tree_list(f->fd, ROOT_TRIAL, &names, err);
    for (unsigned i = 0; ok && i < names.count; i++)
        ok = tree_remove(f->fd, names.items[i], err);
    strings_free(&names);
    return ok;
}
