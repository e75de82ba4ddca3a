/* SPDX-License-Identifier: BSD-3-Clause
 * Fills a page's template with values.
 */
#include "ctl/http/template.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_LEN 31
#define NAME_LETTERS "abcdefghijklmnopqrstuvwxyz_"

static void print_escaped(FILE *out, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '<':
            fputs("&lt;", out);
            break;
        case '>':
            fputs("&gt;", out);
            break;
        case '&':
            fputs("&amp;", out);
            break;
        case '"':
            fputs("&quot;", out);
            break;
        default:
            fputc(*text, out);
            break;
        }
    }
}

static const char *value_of(const json_t *values, const char *name, bool *ret_is_html)
{
    const json_t *value = json_object_get(values, name);

    *ret_is_html = json_is_array(value);
    const char *text = json_string_value(*ret_is_html ? json_array_get(value, 0) : value);
    return text ? text : "";
}

/* What stands between braces: a kind ('?', '/' or none) and a name.
 * Return: what follows the closing braces; NULL when these are no such braces. */
static const char *read_mark(const char *at, char *ret_kind, char ret_name[NAME_MAX_LEN + 1])
{
    const char *p = at + 2;

    *ret_kind = *p == '?' || *p == '/' ? *p++ : '\0';
    size_t len = strspn(p, NAME_LETTERS);
    if (len == 0 || len > NAME_MAX_LEN || strncmp(p + len, "}}", 2) != 0)
        return NULL;
    memcpy(ret_name, p, len);
    ret_name[len] = '\0';
    return p + len + 2;
}

static void print_value(FILE *out, const json_t *values, const char *name)
{
    bool is_html;
    const char *text = value_of(values, name, &is_html);

    if (is_html)
        fputs(text, out);
    else
        print_escaped(out, text);
}

static void fill(FILE *out, const char *template, const json_t *values)
{
    char kind, name[NAME_MAX_LEN + 1];
    bool is_shown = true, is_html;
    const char *at, *next;

    while ((at = strstr(template, "{{"))) {
        if (is_shown)
            fwrite(template, 1, (size_t)(at - template), out);
        next = read_mark(at, &kind, name);
        template = next ? next : at + 2;
        if (!next)
            continue;
        if (kind == '?')
            is_shown = *value_of(values, name, &is_html) != '\0';
        else if (kind == '/')
            is_shown = true;
        else if (is_shown)
            print_value(out, values, name);
    }
    fputs(template, out);
}

char *template_fill(const char *template, const json_t *values, size_t *ret_len)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, ret_len);

    if (!out)
        return NULL;
    fill(out, template, values);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}
