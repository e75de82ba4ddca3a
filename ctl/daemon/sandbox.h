/* SPDX-License-Identifier: BSD-3-Clause
 * Taking from a process what it does not need any more.
 */
#ifndef TCNS_CTL_SANDBOX_H
#define TCNS_CTL_SANDBOX_H

/* For the supervisor and the worker, at their beginning: no new privileges, no core dump, no
 * look into the memory by others. What they fork inherits it. */
void sandbox_begin(void);

/* For the worker, when all is open that it needs: no capability, an empty root directory
 * where that is possible, and no system call but those that moving packets and answering
 * takes. What cannot be had is logged; the worker runs all the same. */
void sandbox_enter(void);

/* To be called now and then: logs, at level debug, which system call was refused last. */
void sandbox_tell(void);

#endif
