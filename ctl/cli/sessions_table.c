/* SPDX-License-Identifier: BSD-3-Clause
 * The table that the verb sessions prints.
 */
#include "ctl/cli/sessions_table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/cli/session_text.h"
#include "ctl/cli/table.h"

#define COLUMNS_MAX_CNT 16

enum kind { END, WORD, FLAG, BYTES, TIME, PROCESS };

struct column {
    enum kind kind;
    const char *key;
};

/* What each column is made of, and how it gives way where the terminal is narrow: to see
 * who talks to whom, and whether that is encrypted and why, comes last. */
static const struct table_column live_columns[] = {
    {"LOCAL", .in_middle = true, .narrow = 10, .min = 13, .drop = 13},
    {"PEER", .in_middle = true, .narrow = 9, .min = 13, .drop = 14},
    {"DIR", .drop = 6},
    {"STATE"},
    {"AUTH", .drop = 10},
    {"REASON", .drop = 12},
    {"PROCESS", .narrow = 7, .min = 10, .drop = 11},
    {"TX", .is_number = true, .drop = 5},
    {"RX", .is_number = true, .drop = 5},
    {"ROLE", .drop = 1},
    {"TEP", .drop = 2},
    {"AEAD", .drop = 3},
    {"SESSION ID", .narrow = 4, .min = 10, .drop = 8},
};
static const struct column live_cells[] = {
    {END, "local"},          {END, "peer"},    {WORD, "dir"},   {WORD, "state"},
    {FLAG, "authenticated"}, {WORD, "reason"}, {PROCESS, NULL}, {BYTES, "tx_bytes"},
    {BYTES, "rx_bytes"},     {WORD, "role"},   {WORD, "tep"},   {WORD, "aead"},
    {WORD, "session_id"},
};

static const struct table_column ended_columns[] = {
    {"ENDED", .drop = 8},
    {"LOCAL", .in_middle = true, .narrow = 10, .min = 13, .drop = 13},
    {"PEER", .in_middle = true, .narrow = 9, .min = 13, .drop = 14},
    {"DIR", .drop = 6},
    {"END"},
    {"ERROR", .drop = 11},
    {"REASON", .drop = 12},
    {"TX", .is_number = true, .drop = 5},
    {"RX", .is_number = true, .drop = 5},
    {"ROLE", .drop = 1},
    {"TEP", .drop = 2},
    {"AEAD", .drop = 3},
    {"SESSION ID", .narrow = 4, .min = 12, .drop = 7},
};
static const struct column ended_cells[] = {
    {TIME, "ended"}, {END, "local"},   {END, "peer"},        {WORD, "dir"},       {WORD, "end"},
    {WORD, "error"}, {WORD, "reason"}, {BYTES, "tx_bytes"},  {BYTES, "rx_bytes"}, {WORD, "role"},
    {WORD, "tep"},   {WORD, "aead"},   {WORD, "session_id"},
};

#define CNT(array) (sizeof(array) / sizeof((array)[0]))
_Static_assert(CNT(live_columns) == CNT(live_cells), "a cell for each column");
_Static_assert(CNT(ended_columns) == CNT(ended_cells), "a cell for each column");

struct sessions_table {
    bool ended;
    const struct column *cells;
    size_t cell_cnt;
    const struct term *term;
    struct table *table;
    unsigned long all, encrypted, clear, bypassed;
};

struct sessions_table *sessions_table_new(bool ended, const struct term *term)
{
    struct sessions_table *t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    t->ended = ended;
    t->term = term;
    t->cells = ended ? ended_cells : live_cells;
    t->cell_cnt = ended ? CNT(ended_cells) : CNT(live_cells);
    t->table = ended ? table_new(ended_columns, t->cell_cnt) : table_new(live_columns, t->cell_cnt);
    if (!t->table) {
        free(t);
        return NULL;
    }
    return t;
}

void sessions_table_free(struct sessions_table *t)
{
    if (t)
        table_free(t->table);
    free(t);
}

static const char *format(const struct sessions_table *t, const struct column *c, const json_t *s,
                          char *out)
{
    switch (c->kind) {
    case END:
        return session_text_end(s, c->key, out);
    case BYTES:
        return session_text_bytes(s, c->key, t->term->is_terminal, out);
    case TIME:
        return session_text_time(s, c->key, out);
    case PROCESS:
        return session_text_process(s, out);
    case FLAG:
        return session_text_flag(s, c->key, out);
    case WORD:
        break;
    }
    return session_text_word(s, c->key, out);
}

static void count(struct sessions_table *t, const json_t *s)
{
    const char *state = json_string_value(json_object_get(s, "state"));

    t->all++;
    t->encrypted += state && strcmp(state, "encrypted") == 0;
    t->clear += state && strcmp(state, "clear") == 0;
    t->bypassed += state && strcmp(state, "bypassed") == 0;
}

/* The oldest first; the kernel's own, whose age is not known, last. */
static double sort_key(const struct sessions_table *t, const json_t *s)
{
    if (json_real_value(json_object_get(s, "started")) == 0 && !json_object_get(s, "dir"))
        return HUGE_VAL;
    return json_real_value(json_object_get(s, t->ended ? "ended" : "started"));
}

bool sessions_table_add(struct sessions_table *t, const json_t *s)
{
    char texts[COLUMNS_MAX_CNT][SESSION_TEXT_LEN];
    const char *cells[COLUMNS_MAX_CNT];

    for (size_t i = 0; i < t->cell_cnt; i++)
        cells[i] = format(t, &t->cells[i], s, texts[i]);
    count(t, s);
    return table_add(t->table, cells, sort_key(t, s));
}

static enum term_colour colour(size_t column, const char *cell)
{
    return session_text_colour(cell); /* the words are in no other column */
}

void sessions_table_print(struct sessions_table *t, FILE *out, size_t max)
{
    size_t left = table_print(t->table, out, t->term, max, colour);

    if (left > 0)
        fprintf(out, "... and %zu more\n", left);
}

void sessions_table_print_summary(const struct sessions_table *t, FILE *out)
{
    unsigned long rest = t->all - t->encrypted - t->clear - t->bypassed;

    fprintf(out, "%lu connection%s", t->all, t->all == 1 ? "" : "s");
    if (t->ended) {
        fprintf(out, " ended");
        return;
    }
    fprintf(out, ": %lu encrypted, %lu clear", t->encrypted, t->clear);
    if (rest > 0)
        fprintf(out, ", %lu opening or closing", rest);
    if (t->bypassed > 0)
        fprintf(out, ", %lu bypassed", t->bypassed);
}
