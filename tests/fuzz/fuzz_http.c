/* SPDX-License-Identifier: BSD-3-Clause
 * HTTP requests as strangers send them, whole and byte by byte: no prefix of a request may
 * be answered otherwise than the whole.
 */
#include "fuzz.h"

#include "ctl/http/http.h"

static int parse(const uint8_t *data, size_t len, struct http_request *ret)
{
    char *copy = malloc(len ? len : 1); /* of its size, so that sanitizers see any overrun */

    FUZZ_CHECK(copy);
    memcpy(copy, data, len);
    int status = http_parse_request(copy, len, ret);
    if (status == 0) {
        FUZZ_CHECK(ret->path[0] == '/');
        for (const char *s = ret->path; *s; s++)
            FUZZ_CHECK(*s > ' ' && *s <= '~' && *s != '?');
        for (const char *s = ret->query; *s; s++)
            FUZZ_CHECK(*s > ' ' && *s <= '~');
        FUZZ_CHECK(strlen(ret->path) + strlen(ret->query) < len);
    }
    free(copy);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct http_request request;
    size_t len = size < HTTP_REQUEST_MAX_LEN ? size : HTTP_REQUEST_MAX_LEN;
    int whole = parse(data, len, &request);

    for (size_t n = len > 64 ? len - 64 : 0; n < len; n++) {
        int part = parse(data, n, &request);

        FUZZ_CHECK(part == -1 || part == whole);
    }
    return 0;
}
