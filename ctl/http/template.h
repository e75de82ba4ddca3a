/* SPDX-License-Identifier: BSD-3-Clause
 * Fills a page's template with values.
 *
 *   {{name}}                 the value, with what HTML gives a meaning escaped
 *   {{?name}} ... {{/name}}  only there when the value is not empty; not nested
 *
 * Names in lower case and '_'. A name without a value is empty.
 */
#ifndef TCNS_CTL_TEMPLATE_H
#define TCNS_CTL_TEMPLATE_H

#include <jansson.h>
#include <stddef.h>

/* values: an object of strings; a string in an array of one is HTML already, and goes in as
 * it is. Return: the text, caller frees, *ret_len bytes; NULL when out of memory. */
char *template_fill(const char *template, const json_t *values, size_t *ret_len);

#endif
