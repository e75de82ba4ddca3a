/* SPDX-License-Identifier: BSD-3-Clause
 * A table of text, aligned, that fits the terminal.
 *
 * How it works: rows wait, as columns are as wide as their widest cell. Where the
 * terminal is narrower than that, columns give way in the order of their numbers:
 * first those with a "narrow" of 1 shrink to their "min", and those with a "drop" of
 * 1 go; then those with 2 ... until it fits. What is left over then goes back to
 * those that have shrunk. So a line is longer than the terminal is wide only where the
 * columns that never go are.
 */
#ifndef TCNS_CTL_TABLE_H
#define TCNS_CTL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "ctl/cli/term.h"

struct table_column {
    const char *title;
    bool is_number; /* to the right */
    bool in_middle; /* what is too long loses its middle, not its end */
    int narrow;     /* when it shrinks; 0: never */
    int min;        /* to how many characters */
    int drop;       /* when it goes; 0: never */
};

struct table;

/* columns are borrowed. Return: NULL when out of memory. */
struct table *table_new(const struct table_column *columns, size_t cnt);
void table_free(struct table *t);

/* Copies the cells, one for each column, of printable ASCII. Rows are printed in the order
 * of key, those with the same key as they came. Return: false when out of memory. */
bool table_add(struct table *t, const char *const *cells, double key);

/* Return: colour of a cell. */
typedef enum term_colour (*table_colour_fn)(size_t column, const char *cell);

/* Prints the titles and at most max rows; max 0: all. colour may be NULL.
 * Return: how many rows there were besides. */
size_t table_print(struct table *t, FILE *out, const struct term *term, size_t max,
                   table_colour_fn colour);

#endif
