/* SPDX-License-Identifier: BSD-3-Clause
 * The files by which systemd gives a service a namespace of its own.
 *
 * How it works: three drop-ins of the administrator's, /etc/systemd/system/UNIT.d/...: the
 * service's (where it runs, and that it needs the daemon), the daemon's (that it needs the
 * namespace, and lives as long as a service needs it) and the namespace's (published
 * ports). A unit itself is never changed. All have our head line, and only such files are
 * replaced or removed.
 */
#ifndef TCNS_CTL_DROPIN_H
#define TCNS_CTL_DROPIN_H

#include <stdbool.h>
#include <stddef.h>

#define DROPIN_UNITS "/etc/systemd/system"
#define DROPIN_FILE  "50-tcpcrypt-ns.conf"

#define DROPIN_UNIT_MAX_LEN 255 /* systemd's own limit */

/* The units that carry a namespace. Each ret has DROPIN_UNIT_MAX_LEN + 1 bytes. */
void dropin_daemon_unit(const char *name, char *ret);
void dropin_netns_unit(const char *name, char *ret);

/* Writes the drop-in of a service or a socket unit: it is in the namespace name.
 * Return: 0; -errno; -EEXIST: a file of that name is not ours. */
int dropin_write_member(const char *unit, const char *name);

/* Writes the drop-ins of the two units that carry the namespace; publish: as the options of
 * "netns", may be empty. Return: as above. */
int dropin_write_daemon(const char *name);
int dropin_write_netns(const char *name, const char *publish);

/* Removes a unit's drop-in, and its folder when it is empty then.
 * Return: 0, also when there is none; -EEXIST: it is not ours; -errno. */
int dropin_remove(const char *unit);

/* Return: whether the unit has a drop-in of ours. */
bool dropin_exists(const char *unit);

/* Reads which namespace a unit's drop-in names. Return: false: it has none of ours. */
bool dropin_read(const char *unit, char ret_name[DROPIN_UNIT_MAX_LEN + 1]);

/* Calls fn with each unit, service or socket, that has a drop-in of ours which names a
 * namespace. fn may remove it. Return: 0; -errno, or the first result of fn that is not 0. */
int dropin_each_member(int (*fn)(const char *unit, const char *name, void *arg), void *arg);

#endif
