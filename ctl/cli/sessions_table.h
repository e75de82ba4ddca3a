/* SPDX-License-Identifier: BSD-3-Clause
 * The table that the verb sessions prints, and its summary line.
 */
#ifndef TCNS_CTL_SESSIONS_TABLE_H
#define TCNS_CTL_SESSIONS_TABLE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "ctl/cli/term.h"

struct sessions_table;

/* ended: of connections that have ended. Numbers are shorter on a terminal. Return: NULL
 * when out of memory. */
struct sessions_table *sessions_table_new(bool ended, const struct term *term);
void sessions_table_free(struct sessions_table *t);

/* Return: false when out of memory. */
bool sessions_table_add(struct sessions_table *t, const json_t *s);

/* At most max rows, the oldest first; 0: all. */
void sessions_table_print(struct sessions_table *t, FILE *out, size_t max);

/* "2 connections: 1 encrypted, 1 clear", without newline. */
void sessions_table_print_summary(const struct sessions_table *t, FILE *out);

#endif
