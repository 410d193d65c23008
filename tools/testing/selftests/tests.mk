# SPDX-License-Identifier: GPL-2.0
# How the directories of tests here are built. Each sets TESTS, LIBRARY (what all its tests are
# linked with) and, for what it has from elsewhere, DIRECTORIES, and includes this.

OUT ?= .
CC ?= gcc
CFLAGS ?= -O2 -g

UAPI := ../../../../include/uapi
WARNINGS := -Wall -Wextra -Werror -Wno-unused-parameter -Wno-missing-field-initializers
# The harness is the kernel's own: its headers are not ours to correct.
INCLUDES := -I. $(DIRECTORIES:%=-I%) -I$(UAPI) -isystem $(KSELFTEST_DIR)
COMPILE = $(CC) -std=gnu11 -D_GNU_SOURCE $(CFLAGS) $(WARNINGS) $(INCLUDES)

BINARIES := $(TESTS:%=$(OUT)/%)
OBJECTS := $(LIBRARY:%=$(OUT)/%.o)
HEADERS := $(wildcard *.h $(DIRECTORIES:%=%/*.h) ../../../../samples/c/*.h) $(UAPI)/linux/vfio_pgsize.h

vpath %.c $(DIRECTORIES)

all: $(BINARIES)

$(BINARIES): $(OUT)/%: %.c $(OBJECTS) $(HEADERS) | harness
	$(COMPILE) -static -pthread -o $@ $< $(OBJECTS)

$(OBJECTS): $(OUT)/%.o: %.c $(HEADERS) | harness
	@mkdir -p $(@D)
	$(COMPILE) -c -o $@ $<

harness:
	@test -f "$(KSELFTEST_DIR)/kselftest_harness.h" || { \
		echo "selftests: no kselftest_harness.h in '$(KSELFTEST_DIR)': set KSELFTEST_DIR to" \
		     "tools/testing/selftests of a kernel source tree" >&2; exit 1; }

clean:
	rm -f $(BINARIES) $(OBJECTS)

help:
	@sed -n '2,3s/^# *//p' Makefile

.PHONY: all harness clean help
