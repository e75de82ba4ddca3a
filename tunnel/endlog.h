/* SPDX-License-Identifier: BSD-3-Clause
 * The log's line for a connection that has ended.
 */
#ifndef TCNS_TUNNEL_ENDLOG_H
#define TCNS_TUNNEL_ENDLOG_H

#include "tunnel/tunnel.h"

/* At LOG_LEVEL_INFO. state: what it was while it lived; the session's own says that it is
 * closing. */
void endlog_write(const struct tunnel_session *s, enum tunnel_state state);

#endif
