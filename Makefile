# SPDX-License-Identifier: GPL-2.0
#
# vfio-pgsize. `make help` lists the targets. The kernel's build reads Kbuild, not this file.

INSIDE := tools/vm/inside.sh
VM := $(INSIDE) tools/vm/vm.py
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/vfio-pgsize

export KERNEL

help:
	@echo "make demo       demonstrate the module in a virtual machine"
	@echo "make check      run all tests; ONLY='NAME...' runs some, LIST=1 lists them,"
	@echo "                BUSY=N runs N endless loops on each processor meanwhile"
	@echo "make soak-viommu  run a long test of QEMU's emulated IOMMUs, see Documentation/testing.rst"
	@echo "make soak-cpr   the same of QEMU's live update"
	@echo "make soak-virtio-mem  the same of virtio-mem, with joined mappings"
	@echo "make modules    build vfio_pgsize.ko for Debian's kernel, into build/<release>/"
	@echo "                KDIR=DIR: for the kernel whose full, prepared source is DIR"
	@echo "make vm         open a shell in the virtual machine; ARGS= options of tools/vm/vm.py"
	@echo "make snp-qemu   build the QEMU that emulates an SEV-SNP host, for make vm ARGS='--snp milan'"
	@echo "make bench      measure the cost of mapping, in instructions, against type1 and iommufd"
	@echo "make soak-joined  ten million random calls on joined mappings, and a guest of 16 GiB: some hours"
	@echo "make fmt        format the Rust sources"
	@echo "make clippy     lint them"
	@echo "make lint       run all linters: clippy, ruff, mypy, shellcheck, checkpatch, sparse ..."
	@echo "make doc        build Documentation/ as HTML in build/doc/"
	@echo "make clean      remove build output from the checkout"
	@echo "make distclean  also remove the cache: $(CACHE)"
	@echo
	@echo "KERNEL=7.3      Debian kernel to use, see tools/vm/kernels.list"
	@echo
	@echo "All but KDIR= runs in a Debian build root in the cache: as root, on Debian."

demo:
	@$(INSIDE) tools/demo/demo.py

check:
	@$(INSIDE) tools/vm/check.py $(if $(LIST),--list) $(if $(ONLY),--only '$(ONLY)') \
		$(if $(BUSY),--busy '$(BUSY)')

SOAK = @$(INSIDE) tools/vm/check.py --soak --only $(@:soak-%=%)

soak-cpr:
	$(SOAK)

soak-viommu:
	$(SOAK)

soak-virtio-mem:
	$(SOAK)

ifdef KDIR
modules:
	@test -e "$(KDIR)/Makefile" || { echo "make: KDIR=$(KDIR) has no Makefile" >&2; exit 1; }
	@ls "$(KDIR)"/rust/libkernel.rmeta >/dev/null 2>&1 || { \
		echo "make: $(KDIR) has no Rust metadata: give the full source of the kernel (no" \
		     "headers package has it), configured as the kernel is, after" \
		     "'make modules_prepare' with CONFIG_RUST=y" >&2; exit 1; }
	mkdir -p build/native
	$(MAKE) -C "$(KDIR)" M="$(CURDIR)" MO="$(CURDIR)/build/native" modules
	@echo "built build/native/vfio_pgsize.ko"
else
modules:
	@$(INSIDE) tools/vm/module.py --out /src/build
endif

vm:
	@$(VM) shell $(ARGS)

snp-qemu:
	@$(INSIDE) tools/vm/snp_qemu.py

bench:
	@mkdir -p build
	@$(INSIDE) tools/bench/bench.py --json build/bench.json $(if $(RST),--rst '$(RST)')

# Each round makes 150,000 calls.
JOINED_ROUNDS := 67

soak-joined:
	@$(VM) run --strict --edu 2 --smp 2 --mem 2G --oracle --timeout 36000 -- '. /lib/vm.sh; \
		load_vfio && bind_edu && seed=0 && while [ $$seed -lt $(JOINED_ROUNDS) ]; do \
		seed=$$((seed + 1)); JOINED_SEED=$$seed /tests/joined_random_test || exit 1; done; \
		JOINED_GIB=16 /tests/joined_boot_test'

fmt:
	@$(INSIDE) tools/vm/lint.py fmt --write

lint:
	@$(INSIDE) tools/vm/lint.py all

clippy:
	@$(INSIDE) tools/vm/lint.py clippy

doc:
	@$(INSIDE) tools/vm/lint.py doc --out build/doc

clean:
	rm -rf build samples/rust/target tools/testing/host/target tools/testing/selftests/crate/target \
		tools/crates/*/target

distclean: clean
	rm -rf --one-file-system "$(CACHE)"

.PHONY: help demo check soak-cpr soak-joined soak-viommu soak-virtio-mem modules vm snp-qemu bench fmt lint clippy doc clean distclean
