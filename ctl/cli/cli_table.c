/* SPDX-License-Identifier: BSD-3-Clause
 * The table of verbs and options. Nothing else knows which there are: dispatch,
 * option parsing, help, man page and completions read it.
 */
#include "ctl/cli/attach.h"
#include "ctl/cli/cli.h"
#include "ctl/cli/session_filter.h"
#include "ctl/cli/verbs.h"
#include "ctl/exec/exec.h"

#define NETNS_MORE                                                                                 \
    "A path has a slash. A name wins over a process id. \"self\" is the namespace of the caller"

#define NETNS_FORMS                                                                                \
    "namespace: a name of \"ip netns\", a path, a process id,\n"                                   \
    "or \"self\""

#define DRAIN_NEW_HELP "what becomes of connections that are opened meanwhile"
#define DRAIN_NEW_MORE                                                                             \
    "clear (default): they are the kernel's, unencrypted, and go on after the end, but where the " \
    "policy requires encryption they are refused; refuse: all are"

static const struct cli_option up_options[] = {
    {OPT_NETNS, "netns", "NAME|PATH|PID|self", NETNS_FORMS, NETNS_MORE},
    {OPT_UPLINK, "uplink", "IF",
     "interface to the outside; again for more (default: those with a\n"
     "default route, and Ethernet devices with an address and a route)",
     "Exactly those are uplinks then, 16 at most, and TCP by other interfaces is left alone. "
     "By default, which bridges are none, those that come later are taken, too"},
    ATTACH_OPTIONS,
    {OPT_FOLLOW_NETNS, "follow-netns", NULL, "end when --netns leads to that namespace no longer",
     "When the name or path is taken away, or the process ends. A daemon keeps its namespace in "
     "existence. This end resets connections and leaves TCP there closed: whoever has taken the "
     "name away is done with the namespace"},
    {OPT_DRAIN, "drain", "SECONDS", "on SIGTERM wait so long for connections to end (default: 0)",
     "A second SIGTERM ends at once. A service manager must be told to wait longer than that"},
    {OPT_DRAIN_NEW, "drain-new", "clear|refuse", DRAIN_NEW_HELP, DRAIN_NEW_MORE},
    {OPT_FOREGROUND, "foreground", NULL, "stay, and log to standard error",
     "SIGTERM and SIGINT detach"},
    {OPT_READY_FD, "ready-fd", "N", "write a newline to descriptor N when packets flow"},
    {OPT_VERBOSE, "verbose", NULL, "log more; again for still more",
     "Once: informational lines; twice: debugging lines too"},
    {OPT_END},
};

#define PUBLISH_OPTION                                                                             \
    {                                                                                              \
        OPT_PUBLISH, "publish", "PORT[:INSIDE][/udp]",                                             \
            "reach a port in the namespace at the host's addresses; again for\nmore",              \
            "First the host's port; the one inside is the same unless it is given. An address "    \
            "of the host may stand in front, 192.0.2.1:80 or [2001:db8::1]:80; else all are "      \
            "meant, but not 127.0.0.1 and ::1. The host's packet filters see this as forwarded"    \
    }

static const struct cli_option exec_options[] = {
    ATTACH_OPTIONS,
    PUBLISH_OPTION,
    {OPT_VERBOSE, "verbose", NULL, "log on standard error; again for more"},
    {OPT_END},
};

static const struct cli_option netns_options[] = {
    PUBLISH_OPTION,
    {OPT_REMOVE, "remove", NULL, "take away what a killed one of this name has left"},
    {OPT_VERBOSE, "verbose", NULL, "log on standard error; again for more"},
    {OPT_END},
};

static const struct cli_option enable_options[] = {
    {OPT_NAME, "name", "NAME",
     "of the namespace (default: the unit's); several units may be in\none"},
    PUBLISH_OPTION,
    {OPT_NOW, "now", NULL, "restart the unit if it runs"},
    {OPT_END},
};

static const struct cli_option disable_options[] = {
    {OPT_ALL, "all", NULL, "every unit that was enabled"},
    {OPT_NOW, "now", NULL, "restart the unit if it runs"},
    {OPT_END},
};

static const struct cli_option down_options[] = {
    {OPT_NETNS, "netns", "NAME|PATH|PID|self", NETNS_FORMS, NETNS_MORE},
    {OPT_DRAIN, "drain", "[SECONDS]", "before that, wait for connections to end (default: 30)",
     "Written as --drain=SECONDS. What is left is told on standard error. When this command is "
     "interrupted the draining goes on; another \"down\" ends it at once"},
    {OPT_DRAIN_NEW, "drain-new", "clear|refuse", DRAIN_NEW_HELP, DRAIN_NEW_MORE},
    {OPT_END},
};

#define CLIENT_OPTION                                                                              \
    {                                                                                              \
        OPT_CTL, "ctl", CTL_PLACE, "where the daemon listens, if it was told so with --ctl",       \
            CTL_PLACE_MORE                                                                         \
    }

#define QUERY_OPTIONS                                                                              \
    {OPT_NETNS, "netns", "NAME|PATH|PID|self", NETNS_FORMS "; default: self", NETNS_MORE},         \
        CLIENT_OPTION,                                                                             \
    {                                                                                              \
        OPT_JSON, "json", NULL, "print one JSON object"                                            \
    }

static const struct cli_option sessions_options[] = {
    QUERY_OPTIONS,
    {OPT_ENDED, "ended", NULL, "list the last 256 connections that have ended, oldest first",
     "Since the worker started; each with the time, how it ended (see ENDS), and the error if "
     "there was one"},
    {OPT_ALL, "all", NULL, "also connections that the kernel keeps for itself, as bypassed",
     "Those of loopback, of bypassed ports, of other interfaces, and link-local ones. It takes the "
     "right to enter the namespace"},
    SESSION_FILTER_OPTIONS,
    SESSION_FILTER_PROCESS_OPTION,
    {OPT_WATCH, "watch", NULL, "list again and again; on a terminal q ends it",
     "On a terminal the list stays in its place, and as many lines are shown as fit. Elsewhere "
     "one list follows the other"},
    {OPT_INTERVAL, "interval", "SECONDS", "with --watch: how often (default: 2)"},
    {OPT_END},
};

static const struct cli_option watch_options[] = {
    {OPT_NETNS, "netns", "NAME|PATH|PID|self", NETNS_FORMS "; default: self", NETNS_MORE},
    CLIENT_OPTION,
    {OPT_JSON, "json", NULL, "print each event as one JSON object in a line"},
    SESSION_FILTER_OPTIONS,
    {OPT_END},
};

static const struct cli_option sid_options[] = {
    QUERY_OPTIONS,
    {OPT_FD, "fd", "N", "the connection of the socket with that inherited descriptor",
     "In place of the two ends. The socket is one of the namespace, connected"},
    {OPT_WAIT, "wait", "SECONDS", "while it is negotiated, at most so long"},
    {OPT_END},
};

static const struct cli_option tcnetstat_options[] = {
    {OPT_NETNS, "netns", "NAME|PATH|PID|self", NETNS_FORMS "; default: self", NETNS_MORE},
    CLIENT_OPTION,
    {OPT_END},
};

static const struct cli_option status_options[] = {
    QUERY_OPTIONS,
    {OPT_WAIT, "wait", "SECONDS", "until the daemon answers, at most so long"},
    {OPT_END},
};

static const struct cli_option metrics_options[] = {
    {OPT_NETNS, "netns", "NAME|PATH|PID|self", NETNS_FORMS "; default: self", NETNS_MORE},
    CLIENT_OPTION,
    {OPT_LISTEN, "listen", "ADDRESS:PORT", "stay, and serve them over HTTP at /metrics",
     "The address is a number, [::1] for instance; without one all are meant. The first line "
     "printed is the URL. SIGTERM and SIGINT end it. Whoever reaches the port may read the "
     "numbers"},
    {OPT_END},
};

static const struct cli_option cni_install_options[] = {
    {OPT_ROOT, "root", "DIR", "where the machine's file system is seen (default: at its root)",
     "In a container, for instance /host. The other folders are paths of the machine"},
    {OPT_BIN_DIR, "bin-dir", "DIR", "where the engine looks for plugins (default: /opt/cni/bin)"},
    {OPT_CONF_DIR, "conf-dir", "DIR", "where its networks are (default: /etc/cni/net.d)"},
    {OPT_LIB_DIR, "lib-dir", "DIR",
     "for the program and its shared objects (default:\n"
     "/opt/tcpcrypt-ns)"},
    {OPT_OPTIONS, "options", "JSON", "the plugin's configuration, as {\"policy\": \"require\"}",
     "Keys are long options of up"},
    {OPT_FOREGROUND, "foreground", NULL, "stay, and put the line there again when it is gone",
     "Until SIGTERM or SIGINT; what is installed stays"},
    {OPT_REMOVE, "remove", NULL, "take it all away"},
    {OPT_END},
};

static const struct cli_option capture_options[] = {
    {OPT_NETNS, "netns", "NAME|PATH|PID|self", NETNS_FORMS "; default: self", NETNS_MORE},
    CLIENT_OPTION,
    {OPT_INNER, "inner", NULL, "the clear side: between applications and daemon"},
    {OPT_OUTER, "outer", NULL, "the wire's side: between daemon and peers (default)"},
    {OPT_BOTH, "both", NULL, "both sides, each an interface of the file",
     "They have the same addresses and ports: programs that follow connections mix them up, "
     "unless they tell interfaces apart"},
    {OPT_PEER, "peer", "ADDRESS", "only connections with that host"},
    {OPT_PORT, "port", "N", "only connections with that port, at either end"},
    {OPT_WRITE, "write", "FILE|-", "where to; -: standard output",
     "A new file has mode 0600, one that is there is overwritten"},
    {OPT_COUNT, "count", "N", "end after so many packets"},
    {OPT_SECONDS, "seconds", "N", "end after so long"},
    {OPT_SNAPLEN, "snaplen", "N", "keep so many bytes of each packet (default: all)"},
    {OPT_END},
};

static const struct cli_option cache_options[] = {
    QUERY_OPTIONS,
    {OPT_FLUSH, "flush", NULL, "forget it all", "It needs root, or the daemon's user"},
    {OPT_END},
};

static const struct cli_option policy_options[] = {
    QUERY_OPTIONS,
    {OPT_POLICY, "policy", "prefer|require|off", "the policy where no rule says otherwise"},
    {OPT_RULE, "rule", "RULE", "a rule in place of those that are there; again for more",
     "See POLICY"},
    {OPT_NO_RULES, "no-rules", NULL, "no rules any more"},
    {OPT_END},
};

static const struct cli_option reload_options[] = {
    {OPT_NETNS, "netns", "NAME|PATH|PID|self", NETNS_FORMS "; default: self", NETNS_MORE},
    CLIENT_OPTION,
    {OPT_END},
};

static const struct cli_option check_options[] = {
    {OPT_NETNS, "netns", "NAME|PATH|PID|self", NETNS_FORMS "; default: self", NETNS_MORE},
    {OPT_UPLINK, "uplink", "IF", "interface to the outside; again for more (default: as up)"},
    {OPT_PEER, "peer", "HOST:PORT", "look at the way to a host in place of the namespace",
     "HOST is a name or an address, that of IPv6 in brackets; http://HOST:PORT/ is a test-server, "
     "which is asked what it saw. Without a daemon in the namespace it takes CAP_NET_RAW. The "
     "connections are reset, and who listens there gets nothing to read"},
    {OPT_SELF, "self", NULL, "try all of it between two private namespaces",
     "Two daemons, real connections, and a look at the wire; nothing leaves the machine. Takes "
     "a few seconds, and root"},
    {OPT_JSON, "json", NULL, "print one JSON object"},
    {OPT_END},
};

static const struct cli_option test_server_options[] = {
    {OPT_LISTEN, "listen", "ADDRESS:PORT", "where (default: port 7548 of all addresses)",
     "The address is a number, [::1] for instance; without one all are meant. The first line "
     "printed is the URL. SIGTERM and SIGINT end it"},
    {OPT_JSON, "json", NULL, "the JSON object at every address, in place of the page"},
    {OPT_END},
};

const struct cli_verb cli_verbs[] = {
    {"exec", "-- CMD [ARG...]", "run a command in a new namespace of its own, attached", exec_help,
     exec_options, exec_main},
    {"up", NULL, "attach to a network namespace: encrypt its TCP where the peer can",
     "Starts the daemon of the namespace and returns when packets flow. Connections that exist "
     "already go on, clear. With --foreground the daemon does not detach.",
     up_options, up_main},
    {"netns", "NAME", "keep a network namespace with an uplink of its own, for services",
     "Makes /run/netns/NAME, with addresses that are translated to the host's and a relay to its "
     "resolver, and takes it away on SIGTERM or SIGINT. It attaches nothing: up does. When it "
     "is killed, the namespace stays, and the next of the same name connects it anew.",
     netns_options, netns_main},
    {"enable", "UNIT", "give a service of systemd an encrypted namespace of its own",
     "By drop-ins, so that UNIT and the sockets that start it run in the namespace NAME that "
     "tcpcrypt-ns-netns@NAME.service makes and tcpcrypt-ns@NAME.service attaches to; the unit "
     "itself is "
     "not changed. Nothing but published ports is reached from outside, and the service does not "
     "reach the host's loopback. Done again, it changes what is different.",
     enable_options, enable_main},
    {"disable", "[UNIT]", "take that away again",
     "Removes the drop-ins. A unit that runs must be stopped before, or restarted with --now.",
     disable_options, disable_main},
    {"down", NULL, "detach from a network namespace",
     "Ends connections with a reset, or waits for them first (--drain), and takes away all that up "
     "has set. Without a "
     "daemon it takes away what a killed one has left.",
     down_options, down_main},
    {"sessions", NULL, "list the connections of a namespace",
     "One line for each connection with its state, the reason for it, and the session id, which "
     "is the same at both ends of an encrypted connection. With --ended how it ended in place of "
     "the state.",
     sessions_options, sessions_main},
    {"watch", NULL, "show what happens to connections, as it happens",
     "One line for each event: a connection is opened, is encrypted or clear, and why, or has "
     "ended, and how; or something happens to the daemon. Who reads too slowly loses events, and "
     "is told how many. When the daemon's worker is replaced the watch goes on; it ends with exit "
     "code 3 when the daemon has gone. The filters are of connections; the daemon's events always "
     "come.",
     watch_options, watch_main},
    {"sid", "[LOCAL PEER]", "print the session id of one connection",
     "LOCAL and PEER are its ends, as 192.0.2.1:80 or [2001:db8::1]:80. Prints 66 hexadecimal "
     "digits, which are the same at the other end, and exits with 0; when the connection is not "
     "encrypted, or is none of the daemon's, it says why on standard error and exits with 1.",
     sid_options, sid_main},
    {"tcnetstat", NULL, "list encrypted connections and their session ids, as the original did",
     "Prints the columns of the original tcpcrypt's program of that name. The program behaves "
     "like this verb when it is called by the name tcnetstat.",
     tcnetstat_options, tcnetstat_main},
    {"status", NULL, "show a namespace's daemon and its counters", NULL, status_options,
     status_main},
    {"policy", NULL, "show or replace the policy of a running daemon",
     "Shows the rules, in the order in which they are looked at, and how many connections each has "
     "decided. With --policy, --rule or --no-rules it replaces the default, or all rules. "
     "Connections "
     "that exist go on as they are. It lasts until the next change, reload or start; it needs "
     "root.",
     policy_options, policy_main},
    {"reload", NULL, "have a running daemon read its configuration file again",
     "What becomes of new connections follows the file then, as well as the command line that the "
     "daemon was started with. Connections that exist go on as they are. When the file is wrong, "
     "all stays as "
     "it was. SIGHUP to the daemon does the same. It needs root.",
     reload_options, reload_main},
    {"cache", NULL, "show or forget what is remembered of peers",
     "Shows with how many peers the next connection may begin with keys from an earlier one, and "
     "which are opened without encryption for a while because a SYN that asks for it was lost on "
     "the way. --flush forgets both; it needs root.",
     cache_options, cache_main},
    {"capture", NULL, "write packets to a pcapng file, clear or as on the wire",
     "Each packet has the session id of its connection in its comment. Packets are written as "
     "they pass through the daemon: a super-segment is one record, checksums are complete. What "
     "does not fit the daemon's buffer of 8 MiB is dropped and counted, in the file's statistics "
     "as well. It ends at SIGINT or SIGTERM, with --count or --seconds, and with the daemon. It needs root, or "
     "the daemon's user. Bypassed connections are not the daemon's, and not in it.",
     capture_options, capture_main},
    {"metrics", NULL, "print a namespace's numbers for Prometheus, or serve them",
     "Prints what the daemon counts in Prometheus' text form: connections by state, reason and "
     "end, handshakes and how long they took, bytes, drops, errors. With --listen it serves them, "
     "asking the daemon for each scrape; the server is in the namespace of the caller.",
     metrics_options, metrics_main},
    {"cni", NULL, "be a CNI plugin: attach what a container engine asks for",
     "Reads CNI_COMMAND and its fellows in the environment and a network's configuration on "
     "standard input, as CNI 0.3.0 to 1.1.0 say; under the name tcpcrypt the program does this "
     "without a verb. Goes into a chain behind a plugin that makes an interface. The "
     "configuration's keys are long options of up, true or a value. Exits with 0, or 1 and an "
     "error as JSON on standard output.",
     NULL, cni_main},
    {"check", NULL, "look for what is missing or in the way",
     "Tries, in a namespace, what up needs, and takes it back: devices, privileges, nftables, "
     "sockets, routes, the uplink, and what a killed daemon has left. Each line says ok, warn or "
     "fail, and how to mend it. Exits with 1 when a line says fail.",
     check_options, check_main},
    {"cni-install", NULL, "put the CNI plugin on a machine",
     "Copies the program, the shared objects that it has loaded and a script named tcpcrypt, "
     "and puts a line at the end of the first network's conflist. Containers that are there "
     "already stay as they are. With --remove it takes away the line, then the rest.",
     cni_install_options, cni_install_main},
    {"test-server", NULL, "serve a page that tells visitors how their connection arrived",
     "A small HTTP server for the namespace it is started in. It tells each visitor whether this "
     "very connection arrived encrypted, its session id and how to compare it, or why it is clear; "
     "as a page, and for programs at /session.json.",
     test_server_options, test_server_main},
    {"pause", NULL, "do nothing until SIGTERM",
     "For a container that owns a network namespace and lends it to others: neither the "
     "application's restart nor the daemon's then takes the namespace along.",
     NULL, pause_main},
    {"version", NULL, "print the version", NULL, NULL, version_main},
    {NULL},
};
