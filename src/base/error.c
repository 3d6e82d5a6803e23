#include "base/error.h"

#undef error_set
#undef error_usage
#undef error_errno

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void format_text(struct error *err, enum exit_status status, const char *format, va_list ap)
{
    err->status = status;
    vsnprintf(err->text, sizeof err->text, format, ap);
}

bool error_set(struct error *err, const char *format, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, format);
        format_text(err, EXIT_STATUS_FAILURE, format, ap);
        va_end(ap);
    }
    return false;
}

bool error_usage(struct error *err, const char *format, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, format);
        format_text(err, EXIT_STATUS_USAGE, format, ap);
        va_end(ap);
    }
    return false;
}

bool error_errno(struct error *err, const char *format, ...)
{
    int saved = errno;
    if (err) {
        va_list ap;
        va_start(ap, format);
        format_text(err, EXIT_STATUS_FAILURE, format, ap);
        va_end(ap);
        size_t n = strlen(err->text);
        snprintf(err->text + n, sizeof err->text - n, ": %s", strerror(saved));
    }
    return false;
}
