// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "text.h"

problem text_write(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	if (!file || fputs(text, file) < 0 || fclose(file))
		return problem_is("%s: %m", path);
	return NULL;
}

char *text_read(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t size = 0, room = 1 << 16;
	char *text = malloc(room + 1);
	ssize_t got = -1;

	while (fd >= 0 && text && (got = read(fd, text + size, room - size)) > 0) {
		size += got;
		if (size == room)
			text = realloc(text, (room *= 2) + 1);
	}
	if (fd >= 0)
		close(fd);
	if (got < 0) {
		free(text);
		return NULL;
	}
	text[size] = '\0';
	return text;
}
