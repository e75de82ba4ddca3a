/* SPDX-License-Identifier: BSD-3-Clause
 * Where a network namespace's tcpcrypt-ns answers: the names of its ctl socket.
 *
 * The protocol is Varlink (varlink.org), the interface is described in
 * org.tcpcrypt.Ns1.varlink and by the daemon itself.
 */
#ifndef TCPCRYPT_CTL_H
#define TCPCRYPT_CTL_H

#define TCNS_CTL_INTERFACE "org.tcpcrypt.Ns1"

/* Abstract UNIX stream socket in the namespace (after a zero byte), for reading. */
#define TCNS_CTL_ABSTRACT "tcpcrypt-ns"

/* Directory of "<inode of the namespace>.sock", for administrators. */
#define TCNS_CTL_DIR "/run/tcpcrypt-ns"

#endif
