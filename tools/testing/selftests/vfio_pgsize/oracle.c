// SPDX-License-Identifier: GPL-2.0
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <linux/serial.h>

#include "oracle.h"
#include "wait.h"

#define PORT		"/dev/ttyS1"

static int open_port(void)
{
	struct serial_struct serial;
	struct termios raw;
	int fd = open(PORT, O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	/* The file exists even if the machine has no such port. */
	if (ioctl(fd, TIOCGSERIAL, &serial) || serial.type == PORT_UNKNOWN ||
	    tcgetattr(fd, &raw)) {
		close(fd);
		return -1;
	}
	cfmakeraw(&raw);
	tcsetattr(fd, TCSANOW, &raw);
	return fd;
}

bool oracle_is_there(void)
{
	int fd = open_port();

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static problem read_line(int fd, char *line, size_t size)
{
	struct pollfd port = { .fd = fd, .events = POLLIN };
	size_t length = 0;

	while (length < size - 1) {
		if (poll(&port, 1, PATIENCE * 1000) <= 0)
			return problem_is("the oracle does not answer");
		if (read(fd, line + length, 1) != 1)
			return problem_is("the oracle's port: %m");
		if (line[length] == '\n')
			break;
		length++;
	}
	line[length] = '\0';
	return NULL;
}

/* The answer to a check as text: "ok 512". */
static problem verdict_is(const char *bdf, const char *verdict, uint64_t count)
{
	char expected[32];

	snprintf(expected, sizeof(expected), "ok %lu", count);
	if (!strcmp(verdict, expected))
		return NULL;
	return problem_is("the oracle, of %s: %s", bdf, verdict);
}

problem oracle_ask(const char *question, char *answer, size_t size)
{
	int fd = open_port();
	problem wrong;

	if (fd < 0)
		return problem_is("no oracle: the machine has no second serial port");
	tcflush(fd, TCIFLUSH);
	dprintf(fd, "%s\n", question);
	wrong = read_line(fd, answer, size);
	close(fd);
	return wrong;
}

problem oracle_list(const char *bdf, struct leaves *found, uint64_t *tables)
{
	uint64_t iova, size, pgsize, nr;
	int fd = open_port();
	char line[256];
	problem wrong;

	if (fd < 0)
		return problem_is("no oracle: the machine has no second serial port");
	tcflush(fd, TCIFLUSH);
	dprintf(fd, "list %s\n", bdf);
	while (!(wrong = read_line(fd, line, sizeof(line))) &&
	       sscanf(line, "%lx %lx %lx", &iova, &size, &pgsize) == 3)
		leaves_add(found, iova, size, pgsize, 0);
	close(fd);
	if (!wrong && sscanf(line, "end %lu %lu", &nr, tables) != 2)
		wrong = problem_is("the oracle, of %s: %s", bdf, line);
	return wrong;
}

problem oracle_agrees(const char *bdf, const struct leaves *leaves)
{
	static bool said;
	char verdict[256];
	problem wrong;
	FILE *port;
	int fd = open_port();

	if (fd < 0) {
		if (!said)
			fputs("# no oracle: the machine has no second serial port; not asked\n",
			      stderr);
		said = true;
		return NULL;
	}
	tcflush(fd, TCIFLUSH);
	port = fdopen(fd, "w");
	fprintf(port, "check %s\n", bdf);
	for (size_t i = 0; i < leaves->nr; i++) {
		const struct vfio_pgsize_run *run = &leaves->runs[i];

		fprintf(port, "%llx %llx %llx %s%s\n", run->iova, run->size, run->pgsize,
			run->flags & VFIO_PGSIZE_RUN_READ ? "r" : "",
			run->flags & VFIO_PGSIZE_RUN_WRITE ? "w" : "");
	}
	for (size_t i = 0; i < leaves->nr_at; i++)
		fprintf(port, "at %lx %lx\n", leaves->at[i].iova, leaves->at[i].phys);
	fputs("end\n", port);
	fflush(port);
	wrong = read_line(fd, verdict, sizeof(verdict));
	fclose(port);
	return wrong ? wrong : verdict_is(bdf, verdict, leaves_count(leaves));
}
