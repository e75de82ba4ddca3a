/* SPDX-License-Identifier: BSD-3-Clause
 * What the CNI plugin tells an engine that went wrong.
 */
#ifndef TCNS_CTL_CNI_ERROR_H
#define TCNS_CTL_CNI_ERROR_H

/* Below 100 the spec's, section 5. */
enum cni_code {
    CNI_OK = 0,
    CNI_BAD_VERSION = 1,
    CNI_BAD_FIELD = 2,
    CNI_NO_CONTAINER = 3,
    CNI_BAD_ENV = 4,
    CNI_IO = 5,
    CNI_BAD_JSON = 6,
    CNI_BAD_CONF = 7,
    CNI_TRY_AGAIN = 11,
    CNI_UNAVAILABLE = 50,
    CNI_CANNOT_ATTACH = 100,
    CNI_CANNOT_DETACH = 101,
    CNI_NOT_ATTACHED = 102, /* CHECK: there is no daemon, or it does not answer */
};

#define CNI_TEXT_LEN 512

struct cni_error {
    enum cni_code code;
    char msg[CNI_TEXT_LEN]; /* one sentence, no final stop */
};

/* Fills in e. Return: code. */
enum cni_code cni_fail(struct cni_error *e, enum cni_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
