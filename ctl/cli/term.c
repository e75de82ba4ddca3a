/* SPDX-License-Identifier: BSD-3-Clause
 * What standard output is.
 */
#include "ctl/cli/term.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define WIDTH_DEFAULT  80
#define HEIGHT_DEFAULT 24
#define SIZE_MAX_CNT   10000

static int pick_size(const char *variable, int from_terminal, int otherwise)
{
    const char *text = getenv(variable);
    int n = text ? atoi(text) : 0;

    if (n > 0 && n < SIZE_MAX_CNT)
        return n;
    return from_terminal > 0 ? from_terminal : otherwise;
}

static bool wants_colour(void)
{
    const char *no_color = getenv("NO_COLOR"), *type = getenv("TERM");

    return !(no_color && *no_color) && type && *type && strcmp(type, "dumb") != 0;
}

struct term term_stdout(void)
{
    struct term t = {.is_terminal = isatty(STDOUT_FILENO)};
    struct winsize size = {.ws_col = 0};

    if (!t.is_terminal)
        return t;
    (void)ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
    t.has_colour = wants_colour();
    t.width = pick_size("COLUMNS", size.ws_col, WIDTH_DEFAULT);
    t.height = pick_size("LINES", size.ws_row, HEIGHT_DEFAULT);
    return t;
}

const char *term_colour(const struct term *t, enum term_colour colour)
{
    static const char *const sequences[] = {
        [TERM_PLAIN] = "\033[0m", [TERM_GOOD] = "\033[32m", [TERM_WARN] = "\033[33m",
        [TERM_BAD] = "\033[31m",  [TERM_DIM] = "\033[2m",
    };

    return t->has_colour ? sequences[colour] : "";
}

void term_print_words(const char *text, int indent, int width)
{
    int column = indent;

    while (*text) {
        int len = (int)strcspn(text, " ");

        if (column > indent && width > 0 && column + 1 + len > width) {
            printf("\n%*s", indent, "");
            column = indent;
        }
        column += printf("%s%.*s", column > indent ? " " : "", len, text);
        text += len;
        text += strspn(text, " ");
    }
    putchar('\n');
}
