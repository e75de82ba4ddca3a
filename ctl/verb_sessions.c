/* SPDX-License-Identifier: BSD-3-Clause
 * The verb sessions: list the connections of a namespace.
 */
#include "ctl/verbs.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ctl/ns1.h"
#include "ctl/query.h"

#define CELL_LEN 72 /* the longest is a session id */

enum listing { LIVE = 1, ENDED = 2, BOTH = LIVE | ENDED };

/* title, key of the reply (NULL: made of several), the listings that have it */
#define COLUMN_LIST(X)                                                                             \
    X(LOCAL, "LOCAL", NULL, BOTH)                                                                  \
    X(PEER, "PEER", NULL, BOTH)                                                                    \
    X(DIR, "DIR", "dir", BOTH)                                                                     \
    X(STATE, "STATE", "state", LIVE)                                                               \
    X(TIME, "ENDED", NULL, ENDED)                                                                  \
    X(END, "END", "end", ENDED)                                                                    \
    X(ERROR, "ERROR", "error", ENDED)                                                              \
    X(ROLE, "ROLE", "role", BOTH)                                                                  \
    X(TEP, "TEP", "tep", BOTH)                                                                     \
    X(AEAD, "AEAD", "aead", BOTH)                                                                  \
    X(TX, "TX", NULL, BOTH)                                                                        \
    X(RX, "RX", NULL, BOTH)                                                                        \
    X(REASON, "REASON", "reason", BOTH)                                                            \
    X(ID, "SESSION ID", "session_id", BOTH)

enum column {
#define X(name, title, key, in) COLUMN_##name,
    COLUMN_LIST(X)
#undef X
        COLUMN_CNT
};

static const char *const titles[] = {
#define X(name, title, key, in) title,
    COLUMN_LIST(X)
#undef X
};

static const char *const keys[] = {
#define X(name, title, key, in) key,
    COLUMN_LIST(X)
#undef X
};

static const unsigned char listings[] = {
#define X(name, title, key, in) in,
    COLUMN_LIST(X)
#undef X
};

/* Rows wait as one string each, cells ended by zero bytes: columns are as wide
 * as their widest cell, which is known only at the end. */
struct table {
    enum listing listing;
    char **rows;
    size_t cnt, cap;
    int widths[COLUMN_CNT];
};

static void format_end(const json_t *s, const char *addr_key, const char *port_key, char *out)
{
    char addr[INET6_ADDRSTRLEN];
    int port = (int)json_integer_value(json_object_get(s, port_key));

    query_text(s, addr_key, addr, sizeof(addr));
    snprintf(out, CELL_LEN, strchr(addr, ':') ? "[%s]:%d" : "%s:%d", addr, port);
}

static void format_bytes(const json_t *s, const char *key, char *out)
{
    snprintf(out, CELL_LEN, "%lld", (long long)json_integer_value(json_object_get(s, key)));
}

static void format_time(const json_t *s, const char *key, char *out)
{
    time_t t = (time_t)json_real_value(json_object_get(s, key));
    struct tm tm;

    if (!localtime_r(&t, &tm) || strftime(out, CELL_LEN, "%F %T", &tm) == 0)
        strcpy(out, "-");
}

/* "TCPCRYPT_ECDHE_Curve25519" and "AEAD_AES_128_GCM" say in a column of that
 * title no more than their ends do. */
static void strip(char *cell, const char *prefix)
{
    size_t len = strlen(prefix);

    if (strncmp(cell, prefix, len) == 0)
        memmove(cell, cell + len, strlen(cell + len) + 1);
}

static void format_cell(const json_t *s, enum column column, char *out)
{
    if (keys[column]) {
        query_text(s, keys[column], out, CELL_LEN);
        strip(out, "TCPCRYPT_ECDHE_");
        strip(out, "AEAD_");
        if (!*out)
            strcpy(out, "-");
        return;
    }
    if (column == COLUMN_LOCAL)
        format_end(s, "local", "local_port", out);
    else if (column == COLUMN_PEER)
        format_end(s, "peer", "peer_port", out);
    else if (column == COLUMN_TIME)
        format_time(s, "ended", out);
    else
        format_bytes(s, column == COLUMN_TX ? "tx_bytes" : "rx_bytes", out);
}

static void table_add(struct table *t, const json_t *s)
{
    char row[COLUMN_CNT * CELL_LEN];
    size_t len = 0;

    for (int i = 0; i < COLUMN_CNT; i++) {
        char *cell = row + len;
        format_cell(s, (enum column)i, cell);
        int width = (int)strlen(cell);
        t->widths[i] = width > t->widths[i] ? width : t->widths[i];
        len += (size_t)width + 1;
    }
    if (t->cnt == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 64;
        t->rows = reallocarray(t->rows, t->cap, sizeof(*t->rows));
    }
    char *copy = malloc(len);
    if (!t->rows || !copy)
        die(EXIT_NEGATIVE, "out of memory");
    t->rows[t->cnt++] = memcpy(copy, row, len);
}

static bool is_number_column(int column)
{
    return column == COLUMN_TX || column == COLUMN_RX;
}

static void print_cell(const struct table *t, int column, const char *cell)
{
    int width = is_number_column(column) ? t->widths[column] : -t->widths[column];

    if (!(listings[column] & t->listing))
        return;
    if (column == COLUMN_CNT - 1)
        printf("%s\n", cell);
    else
        printf("%*s  ", width, cell);
}

static void table_print(struct table *t)
{
    for (int i = 0; i < COLUMN_CNT; i++) {
        int width = (int)strlen(titles[i]);
        t->widths[i] = width > t->widths[i] ? width : t->widths[i];
    }
    for (int i = 0; i < COLUMN_CNT; i++)
        print_cell(t, i, titles[i]);
    for (size_t r = 0; r < t->cnt; r++) {
        const char *cell = t->rows[r];
        for (int i = 0; i < COLUMN_CNT; i++) {
            print_cell(t, i, cell);
            cell += strlen(cell) + 1;
        }
        free(t->rows[r]);
    }
    free(t->rows);
}

struct totals {
    unsigned long all, encrypted, clear;
};

static void count(struct totals *n, const json_t *s)
{
    const char *state = json_string_value(json_object_get(s, "state"));

    n->all++;
    n->encrypted += state && strcmp(state, "encrypted") == 0;
    n->clear += state && strcmp(state, "clear") == 0;
}

static void print_totals(const struct totals *n, enum listing listing)
{
    if (listing == ENDED) {
        printf("%lu connection%s ended\n", n->all, n->all == 1 ? "" : "s");
        return;
    }
    printf("%lu connection%s: %lu encrypted, %lu clear", n->all, n->all == 1 ? "" : "s",
           n->encrypted, n->clear);
    if (n->all > n->encrypted + n->clear)
        printf(", %lu opening or closing", n->all - n->encrypted - n->clear);
    printf("\n");
}

/* Return: the next session, to be freed with json_decref(*ret_reply); NULL at the end. */
static const json_t *next_session(struct query *q, json_t **ret_reply)
{
    bool continues;

    *ret_reply = query_next(q, &continues);
    if (continues)
        return json_object_get(*ret_reply, "session");
    json_decref(*ret_reply);
    return NULL;
}

static void print_table(struct query *q)
{
    struct table t = {.listing = q->ended ? ENDED : LIVE};
    struct totals n = {.all = 0};
    const json_t *s;
    json_t *reply;

    while ((s = next_session(q, &reply))) {
        table_add(&t, s);
        count(&n, s);
        json_decref(reply);
    }
    table_print(&t);
    print_totals(&n, t.listing);
}

/* docs/sessions.schema.json; one session a line, as they come: their number does not matter. */
static void print_json(struct query *q)
{
    const char *between = "\n";
    const json_t *s;
    json_t *reply;

    printf("{\"version\":1,\"sessions\":[");
    while ((s = next_session(q, &reply))) {
        fputs(between, stdout);
        json_dumpf(s, stdout, JSON_COMPACT);
        json_decref(reply);
        between = ",\n";
    }
    printf("]}\n");
}

int sessions_main(int argc, char **argv)
{
    struct query q;

    query_init(&q, "sessions", argc, argv);
    query_call(&q, NS1_INTERFACE ".ListSessions", json_pack("{s:b}", "ended", q.ended), true);
    if (q.json)
        print_json(&q);
    else
        print_table(&q);
    query_done(&q);
    return EXIT_OK;
}
