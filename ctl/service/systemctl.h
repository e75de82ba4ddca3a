/* SPDX-License-Identifier: BSD-3-Clause
 * Asking systemd, through its own program.
 */
#ifndef TCNS_CTL_SYSTEMCTL_H
#define TCNS_CTL_SYSTEMCTL_H

#include <stdbool.h>
#include <stddef.h>

/* Return: whether systemd is this machine's service manager, as sd_booted(3) finds out. */
bool systemctl_booted(void);

/* Runs "systemctl --no-ask-password" with these words; the list ends with NULL. Its errors
 * go to standard error. Return: its exit status; -errno. */
int systemctl(const char *const words[]);

/* What systemctl prints about a property of a unit, without the final newline, cut to size.
 * Return: 0; -errno; -EIO when it says nothing. */
int systemctl_property(const char *unit, const char *property, char *ret, size_t size);

#endif
