/* SPDX-License-Identifier: GPL-2.0 */
/* Additions of every test to kselftest_harness.h. */
#ifndef VFIO_PGSIZE_HARNESS_H
#define VFIO_PGSIZE_HARNESS_H

#include "kselftest_harness.h"

#include "problem.h"

/*
 * Seconds of wall time for one test: a kernel with KASAN under emulation is slow,
 * and the host may be busy. tools/vm/pulse.py finds a machine that hangs earlier.
 */
#define TIMEOUT		1200

/* The default for tests without one; the kernel's is 30. */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT	TIMEOUT

#define __EXPECT_SOUND(call, assert) do {				\
	problem __problem = (call);					\
									\
	if (__problem) {						\
		TH_LOG("%s: %s", #call, __problem);			\
		_metadata->exit_code = KSFT_FAIL;			\
		_metadata->trigger = 1;					\
	}								\
} while (0); OPTIONAL_HANDLER(assert)

/* The call returns a problem, which must be NULL. */
#define ASSERT_SOUND(call)	__EXPECT_SOUND(call, 1)
#define EXPECT_SOUND(call)	__EXPECT_SOUND(call, 0)

/* main(), with --help in addition to the harness's options. */
#define TEST_PROGRAM(what)						\
	int main(int argc, char **argv)					\
	{								\
		return test_program(argc, argv, what);			\
	}

static inline int test_program(int argc, char **argv, const char *what)
{
	static char short_help[] = "-h";

	if (argc == 2 && !strcmp(argv[1], "--help")) {
		printf("%s\n\n", what);
		argv[1] = short_help;
	}
	return test_harness_run(argc, argv);
}

#endif
