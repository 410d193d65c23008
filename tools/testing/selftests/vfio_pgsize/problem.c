// SPDX-License-Identifier: GPL-2.0
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "problem.h"

problem problem_is(const char *format, ...)
{
	static _Thread_local char text[2][512];
	static _Thread_local int turn;
	va_list args;

	/* Two buffers: a problem may quote the one before it. */
	turn = !turn;
	va_start(args, format);
	vsnprintf(text[turn], sizeof(text[turn]), format, args);
	va_end(args);
	return text[turn];
}
