/* SPDX-License-Identifier: BSD-3-Clause
 * What standard output is: a terminal of some width, or a file or pipe.
 */
#ifndef TCNS_CTL_TERM_H
#define TCNS_CTL_TERM_H

#include <stdbool.h>

struct term {
    bool is_terminal;
    bool has_colour; /* a terminal that is not "dumb", and NO_COLOR is not set */
    int width;       /* columns; 0: no limit, it is no terminal */
    int height;      /* lines; 0: likewise */
};

/* COLUMNS and LINES in the environment win over what the terminal says. */
struct term term_stdout(void);

enum term_colour { TERM_PLAIN, TERM_GOOD, TERM_WARN, TERM_BAD, TERM_DIM };

/* Return: the sequence that begins the colour, or for TERM_PLAIN ends one; "" where there
 * are no colours. */
const char *term_colour(const struct term *t, enum term_colour colour);

/* Prints text and a newline, broken between words before width (0: not at all). The cursor is
 * at column indent, where continued lines begin, too. */
void term_print_words(const char *text, int indent, int width);

#endif
