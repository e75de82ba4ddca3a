/* SPDX-License-Identifier: BSD-3-Clause
 * Tables: alignment, order, and how they give way on narrow terminals.
 */
#include "ctl/cli/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct table_column columns[] = {
    {"WHO", .in_middle = true, .narrow = 4, .min = 7},
    {"N", .is_number = true, .drop = 1},
    {"ID", .narrow = 2, .min = 6, .drop = 5},
    {"NOTE", .drop = 3},
};

#define COLUMN_CNT (sizeof(columns) / sizeof(columns[0]))

/* Return: what a table of two rows looks like, to be freed. */
static char *print(int width, size_t max, const char *note)
{
    const struct term term = {.is_terminal = width > 0, .width = width};
    struct table *t = table_new(columns, COLUMN_CNT);
    char *text;
    size_t len;

    assert_non_null(t);
    assert_true(table_add(t, (const char *[]){"second.example:80", "1", "abcdefghij", note}, 2));
    assert_true(table_add(t, (const char *[]){"first:80", "1234", "-", note}, 1));
    FILE *out = open_memstream(&text, &len);
    assert_int_equal(table_print(t, out, &term, max, NULL), max == 1);
    fclose(out);
    table_free(t);
    return text;
}

static void check(int width, size_t max, const char *note, const char *want)
{
    char *text = print(width, max, note);

    assert_string_equal(text, want);
    free(text);
}

static void test_all(void **state)
{
    check(0, 0, "x",
          "WHO                   N  ID          NOTE\n"
          "first:80           1234  -           x\n"
          "second.example:80     1  abcdefghij  x\n");
    check(41, 1, "x",
          "WHO                   N  ID          NOTE\n"
          "first:80           1234  -           x\n");
}

/* In turn: N goes, ID shrinks, NOTE goes, WHO shrinks, ID goes. */
static void test_narrower(void **state)
{
    check(37, 0, "x",
          "WHO                ID          NOTE\n"
          "first:80           -           x\n"
          "second.example:80  abcdefghij  x\n");
    check(32, 0, "x",
          "WHO                ID       NOTE\n"
          "first:80           -        x\n"
          "second.example:80  abcde..  x\n");
    check(26, 0, "x",
          "WHO                ID\n"
          "first:80           -\n"
          "second.example:80  abcde..\n");
    check(20, 0, "x",
          "WHO           ID\n"
          "first:80      -\n"
          "secon..le:80  abcd..\n");
    check(8, 0, "x",
          "WHO\n"
          "first:80\n"
          "sec..:80\n");
}

/* A column that says nothing is the first to go, where room is short. */
static void test_nothing_to_say(void **state)
{
    check(0, 0, "-",
          "WHO                   N  ID          NOTE\n"
          "first:80           1234  -           -\n"
          "second.example:80     1  abcdefghij  -\n");
    check(37, 0, "-",
          "WHO                   N  ID\n"
          "first:80           1234  -\n"
          "second.example:80     1  abcdefghij\n");
}

static void test_empty(void **state)
{
    const struct term term = {.width = 10};
    struct table *t = table_new(columns, COLUMN_CNT);
    char *text;
    size_t len;

    FILE *out = open_memstream(&text, &len);
    assert_int_equal(table_print(t, out, &term, 0, NULL), 0);
    fclose(out);
    assert_string_equal(text, "WHO  ID\n");
    free(text);
    table_free(t);
}

/* Never wider than the terminal, as long as what never goes fits; cells keep their ends. */
static void test_every_width(void **state)
{
    for (int width = 7; width < 60; width++) {
        char *text = print(width, 0, "a note");

        for (const char *line = text; *line; line += strcspn(line, "\n") + 1)
            assert_true(strcspn(line, "\n") <= (size_t)width);
        assert_non_null(strstr(text, "80"));
        free(text);
    }
}

static enum term_colour green(size_t column, const char *cell)
{
    return strcmp(cell, "-") == 0 ? TERM_PLAIN : TERM_GOOD;
}

static void test_colour(void **state)
{
    const struct term term = {.is_terminal = true, .has_colour = true, .width = 80};
    static const struct table_column one[] = {{"A"}, {"B"}};
    struct table *t = table_new(one, 2);
    char *text;
    size_t len;

    assert_true(table_add(t, (const char *[]){"xy", "-"}, 0));
    FILE *out = open_memstream(&text, &len);
    table_print(t, out, &term, 0, green);
    fclose(out);
    assert_string_equal(text, "A   B\n\033[32mxy\033[0m  -\n");
    free(text);
    table_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all),
        cmocka_unit_test(test_narrower),
        cmocka_unit_test(test_nothing_to_say),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_every_width),
        cmocka_unit_test(test_colour),
    };

    return cmocka_run_group_tests_name("ctl/table", tests, NULL, NULL);
}
