/* SPDX-License-Identifier: GPL-2.0 */
#ifndef VFIO_PGSIZE_RELEASE_H
#define VFIO_PGSIZE_RELEASE_H

/* The module's version: of the last release, or of the next one. See CHANGELOG.md. */
#define PGSIZE_RELEASE	"0.1"

#endif
