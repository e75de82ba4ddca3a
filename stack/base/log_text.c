/* SPDX-License-Identifier: BSD-3-Clause
 * Text for log lines.
 */
#include "base/log_text.h"

#include <stdio.h>
#include <string.h>

static bool add(struct log_text *t, const char *bytes, size_t len)
{
    if (t->cap - t->len <= len) {
        t->cut = true;
        return false;
    }
    memcpy(t->bytes + t->len, bytes, len);
    t->len += len;
    t->bytes[t->len] = '\0';
    return true;
}

void log_text_add(struct log_text *t, const char *text)
{
    add(t, text, strlen(text));
}

/* Return: bytes of the UTF-8 character at s (RFC 3629 4); 0 when there is none. */
static size_t utf8_len(const unsigned char *s)
{
    static const struct {
        unsigned char first, last, min, max; /* of the first byte, and of the second */
        size_t len;
    } forms[] = {
        {0x00, 0x7f, 0x00, 0xff, 1}, {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };

    for (size_t f = 0; f < sizeof(forms) / sizeof(forms[0]); f++) {
        if (s[0] < forms[f].first || s[0] > forms[f].last)
            continue;
        if (forms[f].len == 1)
            return 1;
        if (s[1] < forms[f].min || s[1] > forms[f].max)
            return 0;
        for (size_t i = 2; i < forms[f].len; i++)
            if ((s[i] & 0xc0) != 0x80)
                return 0;
        return forms[f].len;
    }
    return 0;
}

/* ASCII's and those that Unicode adds, U+0080 to U+009F. */
static bool is_control(const unsigned char *s)
{
    return s[0] < 0x20 || s[0] == 0x7f || (s[0] == 0xc2 && s[1] >= 0x80 && s[1] <= 0x9f);
}

void log_text_add_plain(struct log_text *t, const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    char escape[8];

    while (*s) {
        size_t len = utf8_len(s);
        bool fits;

        if (len > 0 && !is_control(s)) {
            fits = add(t, (const char *)s, len);
        } else {
            len = 1; /* the second byte of U+0080 and the like is escaped by itself */
            fits = add(t, escape, (size_t)snprintf(escape, sizeof(escape), "\\x%02x", *s));
        }
        if (!fits)
            return;
        s += len;
    }
}

void log_text_add_json(struct log_text *t, const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    char escape[8];

    while (*s) {
        size_t len = utf8_len(s);
        bool fits;

        if (len == 0) {
            len = 1;
            fits = add(t, "\\ufffd", 6);
        } else if (*s == '"' || *s == '\\') {
            fits = add(t, escape, (size_t)snprintf(escape, sizeof(escape), "\\%c", *s));
        } else if (is_control(s)) {
            unsigned code = len == 2 ? s[1] : s[0];
            fits = add(t, escape, (size_t)snprintf(escape, sizeof(escape), "\\u%04x", code));
        } else {
            fits = add(t, (const char *)s, len);
        }
        if (!fits)
            return;
        s += len;
    }
}
