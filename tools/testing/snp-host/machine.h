/* SPDX-License-Identifier: GPL-2.0 */
#ifndef SNP_HOST_MACHINE_H
#define SNP_HOST_MACHINE_H

#include <linux/types.h>

#include "snp_host.h"

int machine_switch(const struct snp_host_switch *what);
int machine_queue(const struct snp_host_queue *what);
/* Does not return. @smashed: in an assigned 2M; @shared: an assigned page. */
void __noreturn machine_panic(u64 smashed, u64 shared);

#endif
