/* SPDX-License-Identifier: BSD-3-Clause
 * The options that up and exec share: what a daemon is told at its start.
 */
#ifndef TCNS_CTL_ATTACH_H
#define TCNS_CTL_ATTACH_H

#include <stdbool.h>

#include "ctl/cli/cli.h"
#include "ctl/conf/config.h"
#include "ctl/conf/suites.h"
#include "ctl/daemon/daemon.h"

/* Entries of a table of options. */
#define ATTACH_OPTIONS                                                                             \
    {OPT_POLICY, "policy", "prefer|require|off",                                                   \
     "prefer: clear when the peer cannot encrypt (default);\n"                                     \
     "require: refuse then; off: never negotiate",                                                 \
     "A connection is refused with a RST, in both directions"},                                    \
        {OPT_BYPASS,                                                                               \
         "bypass",                                                                                 \
         "PORT[,PORT...]|none",                                                                    \
         "TCP ports left to the kernel, at either end (default: ports\n"                           \
         "that encrypt themselves); ranges as 6000-6010, and the word\n"                           \
         "\"default\" in the list adds those",                                                     \
         "Ports go up to 65534, as those of the kernel's routing rules. A peer that connects "     \
         "from such a port reaches every service here in clear; under \"require\" it is dropped. " \
         "The default: 22, 443, 465, 563, 636, 853, 989-990, 992-995, 3269, 5061, 5223, 5349, "    \
         "5671, 6514, 6697, 8883",                                                                 \
         "none, default"},                                                                         \
        {OPT_TEP,                                                                                  \
         "tep",                                                                                    \
         "NAME[,NAME...]",                                                                         \
         "key exchanges to offer, best first (default: all):\n" SUITES_TEP_NAMES,                  \
         "The host that answers the SYN chooses, by its own order",                                \
         SUITES_TEP_NAMES},                                                                        \
        {OPT_AEAD,                                                                                 \
         "aead",                                                                                   \
         "NAME[,NAME...]",                                                                         \
         "ciphers to offer, best first (default: all):\n" SUITES_AEAD_NAMES,                       \
         "The host that answers the SYN chooses, by its own order",                                \
         SUITES_AEAD_NAMES},                                                                       \
        {OPT_TEP_A,                                                                                \
         "tep-a",                                                                                  \
         "NAME[,NAME...]",                                                                         \
         "the same, for connections that are opened here only",                                    \
         NULL,                                                                                     \
         SUITES_TEP_NAMES},                                                                        \
        {OPT_TEP_B,                                                                                \
         "tep-b",                                                                                  \
         "NAME[,NAME...]",                                                                         \
         "the same, for those that the peer opens only",                                           \
         NULL,                                                                                     \
         SUITES_TEP_NAMES},                                                                        \
        {OPT_AEAD_A,                                                                               \
         "aead-a",                                                                                 \
         "NAME[,NAME...]",                                                                         \
         "ciphers for connections that are opened here only",                                      \
         NULL,                                                                                     \
         SUITES_AEAD_NAMES},                                                                       \
        {OPT_AEAD_B,                                                                               \
         "aead-b",                                                                                 \
         "NAME[,NAME...]",                                                                         \
         "ciphers for those that the peer opens only",                                             \
         NULL,                                                                                     \
         SUITES_AEAD_NAMES},                                                                       \
        {OPT_REQUIRE_UDP, "require-udp", "allow|drop|reject",                                      \
         "what becomes of UDP by the uplinks while the policy is require\n"                        \
         "(default: allow); it is never encrypted",                                                \
         "DHCP passes in any case. Rules do not matter: it is the policy that counts"},            \
        {OPT_REQUIRE_UDP_DNS,                                                                      \
         "require-udp-dns",                                                                        \
         "ADDRESS[,ADDRESS...]|resolv.conf|none",                                                  \
         "resolvers that may be asked all the same (default: none)",                               \
         "By UDP, at port 53; resolv.conf: those that /etc/resolv.conf names, as the daemon sees " \
         "it at its start, or at a reload",                                                        \
         "resolv.conf, none"},                                                                     \
        {OPT_CONFIG, "config", "FILE",                                                             \
         "read options from FILE first (default: " CONFIG_DEFAULT ",\n"                            \
         "if there is one)",                                                                       \
         "See CONFIGURATION"},                                                                     \
        {OPT_RULE, "rule", "RULE",                                                                 \
         "what holds for some connections: an action (prefer, require, off,\n"                     \
         "bypass), then which, as in \"require out peer=10.0.0.0/8 port=80\";\n"                   \
         "again for more: the first that matches a connection decides",                            \
         "See POLICY"},                                                                            \
        {OPT_NO_RESUME, "no-resume", NULL, "exchange keys afresh for every connection",            \
         "By default a connection to a host that was met before begins with keys that are "        \
         "derived from the earlier ones, and sends data at once"},                                 \
        {OPT_KEEPALIVE, "keepalive", "SECONDS",                                                    \
         "have the peer of an idle connection prove, after so long,\n"                             \
         "that it is there; end the connection when it does not",                                  \
         "The proof is new keys (RFC 8548 3.9), and the peer has as long again for it. 1 to "      \
         "86400; by default this is not done"},                                                    \
        {OPT_REKEY_BYTES, "rekey-bytes", "N",                                                      \
         "new keys after so many bytes (default: what the ciphers\n"                               \
         "allow)",                                                                                 \
         "Default, and maximum: 2^36"},                                                            \
        {OPT_APP_AWARE, "app-aware", "off|on|mandatory",                                           \
         "tell peers that applications here know of encryption (default:\n"                        \
         "off); mandatory: clear when the peer's do not",                                          \
         "See RFC 8547 4.3. What is clear for that is refused by the policy \"require\""},         \
        {OPT_FALLBACK_TIME, "fallback-time", "SECONDS",                                            \
         "how long a peer is opened without encryption after a SYN that\n"                         \
         "asks for it was lost on the way, twice in a row (default: 600)",                         \
         "That is, after one with TCP-ENO was lost and one without it was answered. 1 to 86400"},  \
        {OPT_KEY_TIMEOUT, "key-timeout", "SECONDS",                                                \
         "reset a connection whose peer does not finish the key exchange\n"                        \
         "in time (default: 30)",                                                                  \
         "1 to 86400. Its error is key-timeout"},                                                  \
        {OPT_CTL, "ctl", CTL_PLACE, "open the ctl socket at one more place, for reading",          \
         CTL_PLACE_MORE ". Changing takes CAP_NET_ADMIN, and is not possible by a port"},          \
        {OPT_KEYLOG, "keylog", "FILE",                                                             \
         "write the keys of all connections to FILE, for a dissector:\n"                           \
         "whoever reads it can read them",                                                         \
         "Off by default. The file is made with mode 0600; one that is a symbolic link, belongs "  \
         "to somebody else, or may be read by others is refused"},                                 \
        {OPT_LOG_FORMAT,                                                                           \
         "log-format",                                                                             \
         "text|json|journal",                                                                      \
         "form of the log's lines (default: text, or journal when\n"                               \
         "standard error is the journal)",                                                         \
         "json: one object for each line, with time, level, message, and the facts of an event. "  \
         "journal: with the priority in front, as <4>, for systemd",                               \
         "text, json, journal"},                                                                   \
    {                                                                                              \
        OPT_LOG, "log", "FILE", "append the daemon's log to FILE",                                 \
            "Without it, and without --foreground, the log is discarded"                           \
    }

/* Reads the value of one of these into opts; exits with a usage error when it is no
 * value. Return: false when id is none of these. */
bool attach_read_option(const struct cli_verb *verb, int id, struct daemon_options *opts);

/* One more --uplink; exits with a usage error when it cannot be one. */
void attach_add_uplink(const struct cli_verb *verb, const char *name, struct links *ret);

/* All options are read: do they go together? Exits with a usage error when not. */ #endif
