/* SPDX-License-Identifier: BSD-3-Clause
 * libtcpcrypt: what an application can ask and tell about the encryption of its TCP
 * connections (RFC 8547, RFC 8548), which tcpcrypt-ns does in its network namespace.
 *
 * Encrypted is not authenticated: whoever is on the path can be the peer. Both ends of a
 * connection see the same session ID, and only they; an application that proves to its peer
 * that it knows that ID, and its own role, has authenticated the connection.
 * docs/LIBTCPCRYPT.md says how, and has an example.
 *
 * Every function here may be called from any thread, and after fork(). None exits, raises a
 * signal, or keeps a descriptor open. Each that asks the daemon waits at most TCPCRYPT_TIMEOUT_MS
 * for it, and a connection that the daemon cannot serve at once counts too; tcpcrypt_wait()
 * waits as long as it is told on top. Those that return int return -1 on failure and set
 * errno, which they leave alone otherwise:
 *
 *   EBADF, ENOTSOCK  fd is no socket
 *   EOPNOTSUPP       no TCP socket; or the daemon, or its kernel, cannot do that
 *   ENOTCONN         the socket has no connection, or not yet
 *   EISCONN          it has one, or is opening one: too late for settings
 *   ECONNREFUSED     no tcpcrypt-ns answers in this network namespace
 *   ENOENT           the daemon knows of no such connection: it has ended, or does not pass
 *                    through it (loopback, bypassed ports)
 *   EINPROGRESS      not negotiated yet
 *   ENODATA          the connection is clear: there is no session ID
 *   ETIMEDOUT        the time is over
 *   EPERM, EACCES    not allowed
 *   ENOSPC           the daemon keeps settings of no more sockets, see docs/CONTROL.md
 *   EINVAL           a wrong argument
 *   ENOPROTOOPT      no such option
 *   ENOMEM, EPROTO, EMFILE ...   as ever
 *
 * tcpcrypt_strerror() has a sentence for each.
 */
#ifndef TCPCRYPT_TCPCRYPT_H
#define TCPCRYPT_TCPCRYPT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#ifdef __cplusplus
extern "C" {
#endif

/* RFC 8548 3.4: bytes of a session ID. */
#define TCPCRYPT_SESSID_LEN 33
/* The name that programs for the original know; it was 32 there. */
#define TCPCRYPT_SID_MAXLEN TCPCRYPT_SESSID_LEN

#define TCPCRYPT_TIMEOUT_MS 2000

/* --- What a connection is ----------------------------------------------------- */

enum tcpcrypt_state {
    TCPCRYPT_OPENING,   /* not negotiated yet */
    TCPCRYPT_ENCRYPTED, /* and there is a session ID */
    TCPCRYPT_CLEAR,     /* reason says why */
    TCPCRYPT_CLOSING    /* both ends have sent all they had */
};

/* RFC 8547 4.3; in general A is who opened the connection. */
enum tcpcrypt_role { TCPCRYPT_ROLE_NONE, TCPCRYPT_ROLE_A, TCPCRYPT_ROLE_B };

struct tcpcrypt_info {
    int state;          /* enum tcpcrypt_state */
    int role;           /* enum tcpcrypt_role; ROLE_NONE without a session ID */
    int inbound;        /* 1: the peer opened it */
    int authenticated;  /* 1: see tcpcrypt_mark_authenticated() */
    int app_aware;      /* 1: the a bit that we sent, RFC 8547 4.2 */
    int peer_app_aware; /* 1: and the one that the peer sent; with a session ID */
    uint64_t tx_bytes;  /* of the application, to the peer */
    uint64_t rx_bytes;
    size_t sessid_len; /* TCPCRYPT_SESSID_LEN; 0: there is none */
    unsigned char sessid[TCPCRYPT_SESSID_LEN];
    char reason[32]; /* why it is so: "full", "resumed", "peer-no-eno" ...; the man page
                        tcpcrypt-ns(1) lists them */
    char tep[40];    /* "TCPCRYPT_ECDHE_Curve25519" ...; with a session ID */
    char aead[32];   /* "AEAD_AES_128_GCM" ...; with a session ID */
};

/* What fd's connection is now. info_len is sizeof(*info): a later library writes no more of it
 * than that. */
int tcpcrypt_get_info(int fd, struct tcpcrypt_info *info, size_t info_len);

/* Waits until fd's connection is negotiated, for at most timeout_ms; and until it is
 * connected, when it is about to be. Return: its enum tcpcrypt_state, which is then not
 * OPENING; -1, ETIMEDOUT. */
int tcpcrypt_wait(int fd, int timeout_ms);

/* --- Settings for connections to come ------------------------------------------- */

/* They hold for each connection of the socket that begins later: fd is about to connect, or
 * listens. They go when it is closed. They come on top of the administrator's policy and
 * never weaken it. */

enum tcpcrypt_policy {
    TCPCRYPT_PREFER,  /* clear when the peer cannot encrypt */
    TCPCRYPT_REQUIRE, /* refuse then: connect() fails with ECONNREFUSED */
    TCPCRYPT_OFF
};
int tcpcrypt_set_policy(int fd, int policy);

/* RFC 8548 7, table 5 */
#define TCPCRYPT_AES_128_GCM       0x0001
#define TCPCRYPT_AES_256_GCM       0x0002
#define TCPCRYPT_CHACHA20_POLY1305 0x0010

/* The ciphers to offer or accept, best first; each at most once. Of those that the policy
 * allows; when it allows none of them, the policy's own stay. Host B chooses among what
 * host A offers. */
int tcpcrypt_set_aeads(int fd, const int *aeads, size_t cnt);

/* RFC 8547 4.2: the a bit, by which two applications that know of encryption find each other. */
enum tcpcrypt_app_aware {
    TCPCRYPT_APP_AWARE_OFF,
    TCPCRYPT_APP_AWARE_ON,
    TCPCRYPT_APP_AWARE_MANDATORY /* no encryption with a peer that does not set it */
};
int tcpcrypt_set_app_aware(int fd, int app_aware);

/* RFC 8548 3.5. on = 0: a fresh key exchange, never keys from an earlier connection. */
int tcpcrypt_set_resume(int fd, int on);
/* on = 0: no secret is kept for a later connection. */
int tcpcrypt_set_cache(int fd, int on);

/* RFC 8547 4.3. on = 1: the b bit in an active open; for one of two who open at once. */
int tcpcrypt_set_passive_role(int fd, int on);

/* Forgets all settings of the socket. */
int tcpcrypt_reset(int fd);

/* --- What the application decides ------------------------------------------------- */

/* The application has verified its peer with the session ID: "tcpcrypt-ns sessions" shows the
 * connection as authenticated. ENODATA when it is clear. */
int tcpcrypt_mark_authenticated(int fd);

/* Drops the secrets for resumption that fd's connection used or made (RFC 8548 3.5). */
int tcpcrypt_forget(int fd);

/* Drops all of them, and what is known of paths that lose options. For root. */
int tcpcrypt_flush(void);

/* --- The rest ----------------------------------------------------------------------- */

/* Where the daemon is: "/PATH" or ":PORT" of 127.0.0.1, as with "tcpcrypt-ns up --ctl". NULL: the
 * daemon of the network namespace, as at the start. Holds for the whole process. Settings, and
 * what the application decides, need a UNIX socket. */
int tcpcrypt_set_ctl(const char *place);

/* Return: what an errno of these functions means; static storage. */
const char *tcpcrypt_strerror(int errnum);

/* --- The original's calls -------------------------------------------------------------- */

/* Names and numbers of the original implementation's library. level is IPPROTO_TCP.
 *
 *   option                 get                                  set
 *   TCP_CRYPT_ENABLE       int: 0 off or clear, 1 otherwise     int: 0 as TCPCRYPT_OFF, else
 *                                                               as TCPCRYPT_PREFER
 *   TCP_CRYPT_SESSID       TCPCRYPT_SESSID_LEN bytes            -
 *   TCP_CRYPT_APP_SUPPORT  a byte: 1 we are application-aware,  int: 0 or 1, the a bit
 *                          2 the peer is, 3 both; then the
 *                          session ID
 *   TCP_CRYPT_NOCACHE      int                                  int: 1 no secret is kept
 *   TCP_CRYPT_RESET        -                                    any: as tcpcrypt_reset()
 *
 * The others fail with ENOPROTOOPT: RFC 8548 knows no RSA keys and no modes of key exchange, and
 * lists of connections are longer than an option. A buffer that is too small is EINVAL;
 * nothing is cut. */
enum {
    TCP_CRYPT_ENABLE = 0,
    TCP_CRYPT_CMODE = 1,
    TCP_CRYPT_SESSID = 2,
    TCP_CRYPT_RSA_KEY = 3,
    TCP_CRYPT_APP_SUPPORT = 15,
    TCP_CRYPT_RESET = 100,
    TCP_CRYPT_NOCACHE = 101,
    TCP_CRYPT_NETSTAT = 102
};

int tcpcrypt_getsockopt(int fd, int level, int optname, void *optval, socklen_t *optlen);
int tcpcrypt_setsockopt(int fd, int level, int optname, const void *optval, socklen_t optlen);

enum { TCPCRYPT_PARAM_CTLPATH = 0 };

/* TCPCRYPT_PARAM_CTLPATH: as tcpcrypt_set_ctl(), or a port alone; errno tells of failure. */
void tcpcrypt_setparam(int param, const void *val);

/* The session ID of a connection, as hexadecimal digits: of the first that fits, when
 * local_ip is NULL or local_port 0. Addresses of either family. Return: in memory of the
 * calling thread, until its next call; NULL on failure, and errno. */
char *tcpcrypt_getsessid(const char *remote_ip, uint16_t remote_port, const char *local_ip,
                         uint16_t local_port);

#ifdef __cplusplus
}
#endif

#endif
