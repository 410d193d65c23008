/* SPDX-License-Identifier: GPL-2.0 */
/* Followed memory whose leaves are lost: the hook gets no memory, and has no reserve. */
#ifndef SNP_LOST_H
#define SNP_LOST_H

#include "fail.h"
#include "harness.h"
#include "module.h"
#include "scene.h"

#define SIZE	MIB(16)

FIXTURE(lost) {
	struct vmm vmm;
	struct memory memory;
	struct guest guest;
};

typedef FIXTURE_DATA(lost) Lost;

FIXTURE_SETUP(lost)
{
	if (!fail_is_there())
		SKIP(return, "the kernel injects no faults");
	ASSERT_SOUND(fail_prepare());
	ASSERT_SOUND(module_require("reserve_tables=0 own_domains=1"));
	ASSERT_SOUND(scene_open(&self->vmm, &self->memory, &self->guest, NULL, SIZE));
	ASSERT_SOUND(scene_follow(&self->vmm, &self->memory));
}

FIXTURE_TEARDOWN(lost)
{
	if (!self->memory.va)
		return;
	EXPECT_SOUND(scene_close(&self->vmm, &self->memory, &self->guest, NULL));
}

#endif
