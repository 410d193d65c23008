// SPDX-License-Identifier: GPL-2.0
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "held.h"
#include "units.h"
#include "wait.h"

problem held_open(struct held *held)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = {
		.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP,
	};

	held->page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (held->page == MAP_FAILED)
		return problem_is("a page: %m");
	held->uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	range.range.start = (uintptr_t)held->page;
	range.range.len = PAGE;
	if (held->uffd < 0 || ioctl(held->uffd, UFFDIO_API, &api) ||
	    ioctl(held->uffd, UFFDIO_REGISTER, &range))
		return problem_is("userfaultfd: %m");
	return NULL;
}

problem held_is_wanted(struct held *held)
{
	struct pollfd poll_ = { .fd = held->uffd, .events = POLLIN };
	struct uffd_msg message;

	if (poll(&poll_, 1, 1000 * PATIENCE) != 1)
		return problem_is("nobody wants the page");
	if (read(held->uffd, &message, sizeof(message)) != sizeof(message) ||
	    message.event != UFFD_EVENT_PAGEFAULT)
		return problem_is("userfaultfd says nothing of a fault: %m");
	return NULL;
}

static problem comes(struct held *held, const void *content, unsigned int size, uint64_t mode)
{
	static __thread char page[PAGE] __attribute__((aligned(PAGE)));
	struct uffdio_copy copy = {
		.dst = (uintptr_t)held->page,
		.src = (uintptr_t)page,
		.len = PAGE,
		.mode = mode,
	};

	memset(page, 0, sizeof(page));
	memcpy(page, content, size);
	return ioctl(held->uffd, UFFDIO_COPY, &copy) ? problem_is("UFFDIO_COPY: %m") : NULL;
}

problem held_comes(struct held *held, const void *content, unsigned int size)
{
	return comes(held, content, size, 0);
}

problem held_comes_unwritable(struct held *held, const void *content, unsigned int size)
{
	return comes(held, content, size, UFFDIO_COPY_MODE_WP);
}

problem held_is_released(struct held *held)
{
	struct uffdio_writeprotect range = { .range = { (uintptr_t)held->page, PAGE } };

	return ioctl(held->uffd, UFFDIO_WRITEPROTECT, &range) ?
		       problem_is("UFFDIO_WRITEPROTECT: %m") : NULL;
}

void held_goes(struct held *held)
{
	madvise(held->page, PAGE, MADV_DONTNEED);
}

void held_close(struct held *held)
{
	close(held->uffd);
	munmap(held->page, PAGE);
}
