/* SPDX-License-Identifier: BSD-3-Clause
 * The addresses of the ctl socket's doors, and how to reach one from where we are.
 */
#ifndef TCNS_CTL_CTLDIAL_H
#define TCNS_CTL_CTLDIAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "tcpcrypt/ctl.h"

/* A door's address; len bytes of it count. */
struct ctldial_addr {
    struct sockaddr_storage sa;
    socklen_t len;
};

struct ctldial_addr ctldial_abstract_addr(void);
struct ctldial_addr ctldial_path_addr(const char *path); /* cut when it is too long */

/* Is text a place for a door: "/PATH", or ":PORT" of 127.0.0.1? */
bool ctldial_is_place(const char *text);
struct ctldial_addr ctldial_place_addr(const char *text);

/* Waits at most timeout_ms while the door is crowded; 0: for as long as it takes.
 * Return: a connected, close-on-exec stream socket; -errno (-EAGAIN: it took too long). */
int ctldial(const struct ctldial_addr *addr, unsigned timeout_ms);

/* The abstract name, in the caller's network namespace, if it is a daemon who has it.
 * Return: as ctldial(); -ECONNREFUSED when no daemon answers. */
int ctldial_abstract(unsigned timeout_ms);

/* The door at a place. Return: the same, also when there is nothing at the path. */
int ctldial_place(const char *text, unsigned timeout_ms);

#endif
