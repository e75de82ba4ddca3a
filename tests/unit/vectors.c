/* SPDX-License-Identifier: BSD-3-Clause
 * Known-answer vectors for cmocka tests.
 */
#include "vectors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *file;
static const char *running_section; /* NULL between sections */
static const char *running_case;

/* What vec_hex() gave out in this section. */
static void **lent;
static size_t lent_cnt;

int vectors_setup(void **state)
{
    const char *path = getenv("TCNS_VECTORS");
    json_error_t error;

    (void)state;
    if (!path || !*path)
        path = TCNS_VECTORS_DEFAULT;
    file = json_load_file(path, 0, &error);
    if (!file)
        print_error("vectors: %s: %s\n", path, error.text);
    return file ? 0 : -1;
}

static void free_lent(void)
{
    for (size_t i = 0; i < lent_cnt; i++)
        free(lent[i]);
    free(lent);
    lent = NULL;
    lent_cnt = 0;
}

int vectors_teardown(void **state)
{
    (void)state;
    free_lent();
    json_decref(file);
    return 0;
}

int vectors_blame(void **state)
{
    (void)state;
    if (running_section)
        print_error("vectors: %s: failed in case \"%s\"\n", running_section, running_case);
    running_section = NULL;
    free_lent();
    return 0;
}

void vectors_run(const char *section, void (*check)(json_t *c))
{
    json_t *cases = json_object_get(file, section);
    size_t cnt = json_array_size(cases);
    size_t passed = 0;

    running_section = section;
    running_case = "(section is missing or empty)";
    assert_int_not_equal(cnt, 0);
    for (size_t i = 0; i < cnt; i++) {
        json_t *c = json_array_get(cases, i);

        running_case = vec_str(c, "name");
        check(c);
        passed++;
    }
    print_message("vectors: %-24s %3zu of %3zu cases passed\n", section, passed, cnt);
    running_section = NULL;
    free_lent();
}

static json_t *get(json_t *c, const char *field)
{
    json_t *value = json_object_get(c, field);

    if (!value)
        fail_msg("field \"%s\" is missing", field);
    return value;
}

const char *vec_str(json_t *c, const char *field)
{
    const char *text = json_string_value(get(c, field));

    if (!text)
        fail_msg("field \"%s\" is not a string", field);
    return text;
}

bool vec_is(json_t *c, const char *field, const char *text)
{
    return strcmp(vec_str(c, field), text) == 0;
}

bool vec_bool(json_t *c, const char *field)
{
    json_t *value = get(c, field);

    /* some bits are 0 and 1 in the file */
    return json_is_true(value) || json_integer_value(value) == 1;
}

uint64_t vec_int(json_t *c, const char *field)
{
    json_t *value = get(c, field);

    if (json_is_string(value))
        return strtoull(json_string_value(value), NULL, 10);
    assert_true(json_is_integer(value));
    return (uint64_t)json_integer_value(value);
}

json_t *vec_list(json_t *c, const char *field)
{
    json_t *value = get(c, field);

    assert_true(json_is_array(value));
    return value;
}

bool vec_has(json_t *c, const char *field)
{
    json_t *value = json_object_get(c, field);

    return value && !json_is_null(value);
}

static uint8_t nibble(char ch)
{
    if (ch >= '0' && ch <= '9')
        return (uint8_t)(ch - '0');
    assert_in_range(ch, 'a', 'f');
    return (uint8_t)(ch - 'a' + 10);
}

struct bytes vec_hex_of(json_t *string)
{
    const char *text = json_string_value(string);
    struct bytes b = {0};

    assert_non_null(text);
    b.len = strlen(text) / 2;
    assert_int_equal(strlen(text), 2 * b.len);
    /* exact size: a read past the end is seen by the sanitizers */
    b.p = malloc(b.len ? b.len : 1);
    lent = realloc(lent, (lent_cnt + 1) * sizeof(*lent));
    assert_non_null(b.p);
    assert_non_null(lent);
    lent[lent_cnt++] = b.p;
    for (size_t i = 0; i < b.len; i++)
        b.p[i] = (uint8_t)(nibble(text[2 * i]) << 4 | nibble(text[2 * i + 1]));
    return b;
}

struct bytes vec_hex(json_t *c, const char *field)
{
    return vec_hex_of(get(c, field));
}

static uint16_t int_of(struct bytes b)
{
    assert_in_range(b.len, 1, 2);
    return b.len == 1 ? b.p[0] : (uint16_t)(b.p[0] << 8 | b.p[1]);
}

uint16_t vec_hex_int(json_t *c, const char *field)
{
    return int_of(vec_hex(c, field));
}

size_t vec_hex_ints(json_t *c, const char *field, uint16_t *out, size_t max)
{
    json_t *list = vec_list(c, field);
    size_t cnt = json_array_size(list);

    assert_in_range(cnt, 0, max);
    for (size_t i = 0; i < cnt; i++)
        out[i] = int_of(vec_hex_of(json_array_get(list, i)));
    return cnt;
}

void assert_bytes(struct bytes expected, const void *p, size_t len)
{
    assert_int_equal(len, expected.len);
    if (len > 0)
        assert_memory_equal(p, expected.p, len);
}
