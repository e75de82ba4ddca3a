/* SPDX-License-Identifier: BSD-3-Clause
 * Attaching to a network namespace: starting and stopping its daemon.
 *
 * How it works: the daemon is two processes. The supervisor owns what is
 * configured in the namespace (TUN device, routes, rules, nftables table, ctl
 * sockets) and the worker, its child, moves packets. A worker that dies is
 * replaced; the configuration stays in place meanwhile.
 */
#ifndef TCNS_CTL_DAEMON_H
#define TCNS_CTL_DAEMON_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/log.h"
#include "ctl/daemon/sdnotify.h"
#include "ctl/net/bypass.h"
#include "ctl/net/links.h"
#include "ctl/net/udp.h"
#include "tunnel/tunnel.h"

struct sources;

struct daemon_options {
    int netns_fd;         /* borrowed; the container's namespace; -1: the calling one */
    struct links uplinks; /* names of interfaces; none: those that links.h says */
    const char *follow;   /* borrowed; a text as netns_open() takes: the daemon ends, and leaves TCP
                             closed, when that is no longer the namespace; NULL: not */
    enum tunnel_policy policy;
    struct bypass bypass;            /* see bypass_default() */
    struct udp udp;                  /* while the policy is require */
    struct session_config session;   /* the cache is the tunnel's */
    unsigned keepalive_s;            /* see struct tunnel_config; 0: none */
    unsigned fallback_s;             /* likewise */
    unsigned key_timeout_s;          /* see tunnel_set_key_timeout() */
    struct policy_settings settings; /* of single roles; see struct policy_config */
    struct sources *sources; /* borrowed; where the rest comes from; NULL: nothing to read again */
    struct policy_rule *rules; /* see settings_add_rule() */
    size_t rule_cnt;
    const char *ctl;             /* borrowed; a third door, see ctldial_is_place(); NULL: none */
    unsigned drain_s;            /* a first SIGTERM drains for so long; 0: it ends at once */
    enum tunnel_drain drain_new; /* likewise */
    enum log_level log_level;    /* of supervisor and worker */
    const char *log_path;        /* borrowed; appended to; NULL: /dev/null, or see keep_stderr */
    enum log_format log_format;  /* AUTO: FILE with log_path; see log.h */
    const char *keylog_path;     /* borrowed; see keylog_file_open(); NULL: no key log */
    int keylog_fd;               /* daemon.c's: that file; 0: none */
    bool keep_stderr;            /* log to the caller's standard error when log_path is NULL */
    struct sdnotify *notify;     /* borrowed; the service manager; NULL: none */
    bool end_with_caller;        /* the supervisor gets SIGTERM, and takes everything away, when the
                                    thread that called daemon_start() ends, however it ends */
};

/* PREFER, default bypass, session_config_default, DAEMON_FALLBACK_S, DAEMON_KEY_TIMEOUT_S,
 * LOG_LEVEL_WARN,
 * netns_fd -1, the rest zero. */
#define DAEMON_FALLBACK_S    600
#define DAEMON_KEY_TIMEOUT_S 30
void daemon_options_init(struct daemon_options *opts);

/* Return: the policy in opts, which is borrowed. */
struct policy_config daemon_policy(const struct daemon_options *opts);

/* Nobody should overlook or forget it; the file. */
#define DAEMON_KEYLOG_WARNING "WARNING: the keys of all connections are written to %s"

#define DAEMON_ERROR_LEN 400

/* A running supervisor: a child of the process that called daemon_start(). */
struct daemon {
    pid_t pid;
    int pidfd; /* readable when the supervisor has ended; close-on-exec */
};

#define DAEMON_NONE                                                                                \
    {                                                                                              \
        .pid = -1, .pidfd = -1                                                                     \
    }

/* Forks a supervisor, in a session of its own and with no descriptor of the
 * caller's but those named in opts, and waits until packets flow.
 * Return: 0 and *ret, which daemon_stop() or daemon_release() ends;
 * -errno and a sentence for people in err (no program name, no final stop);
 * -EALREADY when a daemon is attached to the namespace, -EPERM without
 * CAP_NET_ADMIN and CAP_NET_RAW there, -ENETUNREACH without an uplink. */
int daemon_start(const struct daemon_options *opts, struct daemon *ret, char err[DAEMON_ERROR_LEN]);

/* Ends every connection, takes everything away that was configured, and waits
 * until the supervisor has ended and reaps it. Kills it when it takes longer
 * than timeout_ms (then what was configured stays, closed).
 * A struct daemon that is DAEMON_NONE is a no-op.
 * Return: 0; -ETIMEDOUT when it had to be killed; -ECHILD when it had ended badly before. */
int daemon_stop(struct daemon *d, int timeout_ms);

/* Lets go of the supervisor: it runs on, and init reaps it after the caller's end. */
void daemon_release(struct daemon *d);

/* Becomes the supervisor: returns when SIGTERM, SIGINT or the ctl method Down
 * ended it and everything is taken away. ready_fd gets one newline when packets
 * flow; -1: none. The calling process ends up inside the namespace.
 * Return: 0; -errno and a sentence in err. */
int daemon_run(const struct daemon_options *opts, int ready_fd, char err[DAEMON_ERROR_LEN]);

#endif
