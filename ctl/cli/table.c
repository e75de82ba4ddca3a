/* SPDX-License-Identifier: BSD-3-Clause
 * A table of text that fits the terminal.
 */
#include "ctl/cli/table.h"

#include <stdlib.h>
#include <string.h>

#define GAP      2
#define ELLIPSIS ".."
#define NONE     "-" /* a cell that says nothing */

struct row {
    double key;
    size_t number;
    char *cells; /* one string each, one behind the other */
};

struct width {
    int full; /* as wide as its widest cell */
    int now;  /* 0: not shown */
    bool says_something;
};

struct table {
    const struct table_column *columns;
    size_t column_cnt;
    struct width *widths;
    struct row *rows;
    size_t cnt, cap;
};

struct table *table_new(const struct table_column *columns, size_t cnt)
{
    struct table *t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    t->columns = columns;
    t->column_cnt = cnt;
    t->widths = calloc(cnt, sizeof(*t->widths));
    if (!t->widths) {
        free(t);
        return NULL;
    }
    for (size_t i = 0; i < cnt; i++)
        t->widths[i].full = (int)strlen(columns[i].title);
    return t;
}

void table_free(struct table *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->cnt; i++)
        free(t->rows[i].cells);
    free(t->rows);
    free(t->widths);
    free(t);
}

static char *join_cells(struct table *t, const char *const *cells)
{
    size_t len = 0;

    for (size_t i = 0; i < t->column_cnt; i++)
        len += strlen(cells[i]) + 1;
    char *joined = malloc(len), *end = joined;
    for (size_t i = 0; joined && i < t->column_cnt; i++)
        end = stpcpy(end, cells[i]) + 1;
    return joined;
}

bool table_add(struct table *t, const char *const *cells, double key)
{
    if (t->cnt == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 64;
        struct row *grown = reallocarray(t->rows, cap, sizeof(*grown));
        if (!grown)
            return false;
        t->rows = grown;
        t->cap = cap;
    }
    char *joined = join_cells(t, cells);
    if (!joined)
        return false;
    t->rows[t->cnt] = (struct row){.key = key, .number = t->cnt, .cells = joined};
    t->cnt++;
    for (size_t i = 0; i < t->column_cnt; i++) {
        struct width *w = &t->widths[i];
        int len = (int)strlen(cells[i]);

        w->full = len > w->full ? len : w->full;
        w->says_something |= strcmp(cells[i], NONE) != 0;
    }
    return true;
}

/* --- Fitting ---------------------------------------------------------------- */

static int total_width(const struct table *t)
{
    int total = -GAP;

    for (size_t i = 0; i < t->column_cnt; i++)
        if (t->widths[i].now > 0)
            total += t->widths[i].now + GAP;
    return total;
}

/* The columns whose turn it is give way, as far as needed. */
static void give_way(struct table *t, int turn, int width)
{
    for (size_t i = 0; i < t->column_cnt; i++) {
        const struct table_column *c = &t->columns[i];
        struct width *w = &t->widths[i];
        int excess = total_width(t) - width;

        if (excess <= 0 || w->now == 0)
            continue;
        if (c->drop == turn)
            w->now = 0;
        else if (c->narrow == turn && w->now > c->min)
            w->now = w->now - excess > c->min ? w->now - excess : c->min;
    }
}

/* Those that gave way last are the first to get some of it back. */
static void give_back(struct table *t, int last_turn, int width)
{
    for (int turn = last_turn; turn > 0; turn--)
        for (size_t i = 0; i < t->column_cnt; i++) {
            struct width *w = &t->widths[i];
            int left = width - total_width(t);

            if (left > 0 && t->columns[i].narrow == turn && w->now > 0 && w->now < w->full)
                w->now = w->now + left < w->full ? w->now + left : w->full;
        }
}

static int last_turn(const struct table *t)
{
    int last = 0;

    for (size_t i = 0; i < t->column_cnt; i++) {
        last = t->columns[i].drop > last ? t->columns[i].drop : last;
        last = t->columns[i].narrow > last ? t->columns[i].narrow : last;
    }
    return last;
}

static void fit(struct table *t, int width)
{
    int last = last_turn(t);

    for (size_t i = 0; i < t->column_cnt; i++)
        t->widths[i].now = t->widths[i].full;
    if (width <= 0)
        return;
    /* What says nothing in any row goes before all else. */
    for (size_t i = 0; i < t->column_cnt && t->cnt > 0; i++)
        if (t->columns[i].drop && !t->widths[i].says_something && total_width(t) > width)
            t->widths[i].now = 0;
    for (int turn = 1; turn <= last && total_width(t) > width; turn++)
        give_way(t, turn, width);
    give_back(t, last, width);
}

/* --- Printing --------------------------------------------------------------- */

/* Cuts a cell to the width. */
static void print_cut(FILE *out, const char *cell, int len, int width, bool in_middle)
{
    int rest = width - (int)strlen(ELLIPSIS);
    int head = rest < 1 ? width : in_middle ? rest / 2 : rest;
    int tail = in_middle && rest > head ? rest - head : 0;

    fprintf(out, "%.*s%s%s", head, cell, rest < 1 ? "" : ELLIPSIS, cell + len - tail);
}

static void print_cell(const struct table *t, FILE *out, const struct term *term, size_t column,
                       const char *cell, table_colour_fn colour, bool is_last)
{
    const struct table_column *c = &t->columns[column];
    enum term_colour shade = colour ? colour(column, cell) : TERM_PLAIN;
    int len = (int)strlen(cell), width = t->widths[column].now;
    int pad = len < width ? width - len : 0;

    if (c->is_number)
        fprintf(out, "%*s", pad, "");
    if (shade != TERM_PLAIN)
        fputs(term_colour(term, shade), out);
    if (len > width)
        print_cut(out, cell, len, width, c->in_middle);
    else
        fputs(cell, out);
    if (shade != TERM_PLAIN)
        fputs(term_colour(term, TERM_PLAIN), out);
    if (!is_last)
        fprintf(out, "%*s", (c->is_number ? 0 : pad) + GAP, "");
}

static size_t last_shown(const struct table *t)
{
    size_t last = 0;

    for (size_t i = 0; i < t->column_cnt; i++)
        if (t->widths[i].now > 0)
            last = i;
    return last;
}

static void print_row(const struct table *t, FILE *out, const struct term *term, const char *cells,
                      table_colour_fn colour)
{
    size_t last = last_shown(t);

    for (size_t i = 0; i < t->column_cnt; i++, cells += strlen(cells) + 1)
        if (t->widths[i].now > 0)
            print_cell(t, out, term, i, cells, colour, i == last);
    fputc('\n', out);
}

static void print_titles(const struct table *t, FILE *out, const struct term *term)
{
    size_t last = last_shown(t);

    for (size_t i = 0; i < t->column_cnt; i++)
        if (t->widths[i].now > 0)
            print_cell(t, out, term, i, t->columns[i].title, NULL, i == last);
    fputc('\n', out);
}

static int compare_rows(const void *a, const void *b)
{
    const struct row *x = a, *y = b;

    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return x->number < y->number ? -1 : 1;
}

size_t table_print(struct table *t, FILE *out, const struct term *term, size_t max,
                   table_colour_fn colour)
{
    size_t cnt = max > 0 && max < t->cnt ? max : t->cnt;

    if (t->cnt > 0)
        qsort(t->rows, t->cnt, sizeof(*t->rows), compare_rows);
    fit(t, term->width);
    print_titles(t, out, term);
    for (size_t i = 0; i < cnt; i++)
        print_row(t, out, term, t->rows[i].cells, colour);
    return t->cnt - cnt;
}
