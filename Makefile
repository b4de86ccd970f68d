# SPDX-License-Identifier: GPL-2.0-or-later
# fastboot: one Makefile, not recursive. `make help` lists the targets.

VERSION := 0.1.0

all:

# ---- architecture ---------------------------------------------------------
# `make ARCH=arm64` on another machine uses Debian's cross compiler and the
# arm64 libraries that `make ARCH=arm64 deps` installs beside the machine's own.
NATIVE := $(patsubst aarch64,arm64,$(shell uname -m))
ARCH ?= $(NATIVE)
TRIPLET_arm64 := aarch64-linux-gnu
TRIPLET_x86_64 := x86_64-linux-gnu
TRIPLET := $(TRIPLET_$(ARCH))
ifeq ($(TRIPLET),)
$(error ARCH must be x86_64 or arm64, not '$(ARCH)')
endif
ifneq ($(ARCH),$(NATIVE))
ifeq ($(origin CC),default)
CC := $(TRIPLET)-gcc
AR := $(TRIPLET)-ar
endif
export PKG_CONFIG_LIBDIR ?= /usr/lib/$(TRIPLET)/pkgconfig:/usr/share/pkgconfig
FOREIGN := $(ARCH)-
endif

# ---- variants -----------------------------------------------------------
# build/<variant>/ (build/arm64-<variant>/ of another architecture) holds
# everything of one variant. release is installed, debug runs the unit tests,
# asan runs them under AddressSanitizer and UBSan.
VARIANT ?= release
B := build/$(FOREIGN)$(VARIANT)

CC ?= cc
PREFIX ?= /usr
SBINDIR ?= $(PREFIX)/sbin
MANDIR ?= $(PREFIX)/share/man
DOCDIR ?= $(PREFIX)/share/doc/fastboot
SYSCONFDIR ?= /etc

CFLAGS_release := -O2 -g -fstack-protector-strong -D_FORTIFY_SOURCE=2
CFLAGS_debug := -O0 -g3 -Werror
CFLAGS_asan := -O1 -g -Werror -fno-omit-frame-pointer \
	-fsanitize=address,undefined -fno-sanitize-recover=undefined
CFLAGS_cov := -O0 -g --coverage
LDFLAGS_asan := -fsanitize=address,undefined
LDFLAGS_cov := --coverage
# There are no static sanitizers. Every byte is loaded with the next kernel.
INIT_LDFLAGS_release := -static -s -Wl,--gc-sections
INIT_LDFLAGS_debug := -static -Wl,--gc-sections
ifeq ($(filter release debug asan cov,$(VARIANT)),)
$(error VARIANT must be release, debug, asan or cov, not '$(VARIANT)')
endif

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	-Wpointer-arith -Wwrite-strings -Wvla -Wformat=2 -Wundef
FB_CPPFLAGS := -Isrc -D_FILE_OFFSET_BITS=64 -DFB_VERSION='"$(VERSION)"'
FB_CFLAGS := -std=gnu11 $(WARN) $(CFLAGS_$(VARIANT)) -pthread \
	-ffunction-sections -fdata-sections -MMD -MP
FB_LDFLAGS := $(LDFLAGS_$(VARIANT)) -pthread

# `make V=1` shows the commands.
Q := $(if $(V),,@)
say = @$(if $(V),:,printf '  %-4s %s\n' $(1) $@)

# ---- libraries ----------------------------------------------------------
PKG_CONFIG ?= pkg-config
PKGS := libndctl libkmod json-c inih libxxhash liblz4 liblzma libzstd zlib
NO_LIBS_GOALS := help bench clean deps demo kernel test lint uninstall
ifneq ($(filter-out $(NO_LIBS_GOALS),$(or $(MAKECMDGOALS),all)),)
MISSING := $(strip $(foreach p,$(PKGS),$(shell $(PKG_CONFIG) --exists $(p) || echo $(p))))
ifneq ($(MISSING),)
$(error missing libraries: $(MISSING); `make $(if $(FOREIGN),ARCH=$(ARCH) )deps` installs what Debian has, or install the development packages)
endif
PKG_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(PKGS))
PKG_LIBS := $(shell $(PKG_CONFIG) --libs $(PKGS))
# libfdt has no .pc file, and its development package is of one architecture at
# a time: with another one's headers, the library that dtc uses does.
PKG_LIBS += $(if $(filter /%,$(shell $(CC) -print-file-name=libfdt.so)),-lfdt,-l:libfdt.so.1)
INIT_LIBS := $(shell $(PKG_CONFIG) --static --libs json-c inih libxxhash zlib)
endif

# ---- sources: explicit and sorted, a layer each --------------------------
BASE := err facts pool range tree util
FORMAT := acpi bzimage cmdline digest dtb dtb_overlay erofs erofs_decode header inflate
MACHINE := acpi arch clock dtree file fwmap holders hook iomem kconfig kexec \
	kexec_ahead kexec_method kexec_tools kmsg kpage lease loop memblk modules mounts namespace plan run \
	store sys watch
ENGINE := carve hotplug image_map image_plan image_read image_replan \
	image_work image_write lazy lazy_fill lazy_gate region state_copy state_late state_match \
	state_path state_restore state_scan timeline timeline_file timeline_kernel \
	timeline_svg timeline_view
CMD := cmd_check cmd_hotadd cmd_hotremove cmd_image cmd_load cmd_overlay cmd_plan \
	cmd_reboot cmd_release cmd_restore cmd_save cmd_status cmd_timeline config \
	hotplug hugepages inplace inplace_release lazyrestore lazystatus load main \
	out precopy regionstore restore save tables unpack
MODULES := $(BASE:%=base/%) $(FORMAT:%=format/%) $(MACHINE:%=machine/%) \
	$(ENGINE:%=engine/%) $(CMD:%=cmd/%)
OBJS := $(MODULES:%=$(B)/%.o)

# fastboot-init: what it needs of the others the linker takes from the archive.
INIT_MODULES := cmd/early cmd/init_main machine/mount
INIT_OBJS := $(INIT_MODULES:%=$(B)/%.o)

# ---- helpers for the guests: static, one source file each ------------------
VMTOOLS := $(sort $(patsubst tests/vm/tools/%.c,build/$(FOREIGN)vmtools/%,$(wildcard tests/vm/tools/*.c)))

.PHONY: vmtools
vmtools: $(VMTOOLS)

build/$(FOREIGN)vmtools/%: tests/vm/tools/%.c Makefile
	$(call say,CC)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 $(WARN) -O2 -pthread -static -o $@ $<

# ---- unit tests: each names the modules it links --------------------------
UNIT_TESTS := test_acpi test_bzimage test_carve test_clock test_cmdline test_dtb test_dtree test_erofs test_err \
	test_header test_hook test_hotplug test_image test_kexec test_kexec_method \
	test_kexec_tools test_kmsg test_lazy test_lease test_memblk test_mounts \
	test_plan test_pool test_precopy test_range test_region test_replan test_run \
	test_state test_sys test_timeline test_timeline_view test_tree test_util \
	test_watch
test_acpi_MODULES := format/acpi machine/acpi base/err base/range base/util
test_bzimage_MODULES := format/bzimage format/inflate base/err base/util
test_carve_MODULES := engine/carve machine/iomem machine/sys base/err \
	base/facts base/range base/util
test_clock_MODULES := machine/clock
test_cmdline_MODULES := format/cmdline base/err base/range base/util
test_erofs_MODULES := format/erofs format/erofs_decode format/digest format/header base/err \
	base/tree base/util
test_dtb_MODULES := format/dtb format/dtb_overlay engine/carve machine/iomem \
	machine/sys base/err base/facts base/range base/util
test_dtree_MODULES := machine/dtree format/dtb base/err base/facts \
	base/range base/util
test_err_MODULES := base/err
test_header_MODULES := format/digest format/header base/err base/tree base/util
test_hook_MODULES := machine/hook machine/run base/err
test_hotplug_MODULES := engine/hotplug machine/memblk machine/plan \
	machine/clock machine/dtree machine/iomem machine/kpage machine/watch base/err \
	base/facts base/range base/util
test_image_MODULES := engine/image_map engine/image_plan engine/image_read \
	engine/image_replan engine/image_work engine/image_write format/erofs \
	format/erofs_decode format/digest format/header machine/store base/err base/pool base/tree base/util
test_kexec_MODULES := machine/arch machine/file machine/kexec machine/kexec_ahead \
	machine/kexec_method machine/kexec_tools \
	machine/iomem machine/kconfig machine/run machine/sys format/bzimage \
	format/cmdline format/inflate base/err base/facts base/range base/util
test_kexec_method_MODULES = $(test_kexec_MODULES)
test_kexec_tools_MODULES = $(filter-out machine/run,$(test_kexec_MODULES))
test_kmsg_MODULES := machine/kmsg machine/clock base/util
test_lease_MODULES := base/err base/util machine/lease
test_lazy_MODULES := base/err base/util engine/lazy engine/lazy_fill \
	engine/lazy_gate
test_memblk_MODULES := machine/memblk base/err base/facts base/range base/util
test_mounts_MODULES := machine/mounts machine/sys base/err base/util
test_plan_MODULES := machine/plan machine/clock base/err base/range base/util
test_pool_MODULES := base/err base/pool
test_precopy_MODULES := cmd/precopy engine/image_map engine/image_plan engine/image_read \
	engine/image_replan engine/image_work engine/image_write engine/state_match \
	engine/state_path engine/state_scan format/erofs format/erofs_decode \
	format/digest format/header machine/lease machine/store base/err base/pool base/tree base/util
test_range_MODULES := base/range
test_region_MODULES := engine/region format/acpi format/cmdline format/dtb \
	machine/acpi machine/dtree \
	machine/iomem base/err \
	base/facts base/range base/util
test_replan_MODULES = $(test_image_MODULES)
test_run_MODULES := machine/run base/err
test_state_MODULES := engine/state_copy engine/state_late engine/state_match engine/state_path \
	engine/state_restore engine/state_scan base/err base/pool base/tree base/util
test_sys_MODULES := machine/sys base/err base/util
test_timeline_MODULES := engine/timeline engine/timeline_file engine/timeline_kernel \
	engine/timeline_svg engine/timeline_view \
	machine/clock machine/kmsg machine/sys base/err base/util
test_timeline_view_MODULES = $(test_timeline_MODULES)
test_tree_MODULES := base/tree base/util
test_util_MODULES := base/util
test_watch_MODULES := machine/watch machine/clock base/err
UNIT_BINS := $(UNIT_TESTS:%=$(B)/tests/unit/%)

.PHONY: all
all: $(B)/fastboot $(B)/fastboot-init ## build the programs (VARIANT=release|debug|asan|cov, ARCH=x86_64|arm64)

$(B)/fastboot: $(OBJS)
	$(call say,LD)
	$(Q)$(CC) $(FB_LDFLAGS) $(LDFLAGS) -o $@ $^ $(PKG_LIBS) $(LDLIBS)

$(B)/fastboot.a: $(filter-out $(B)/cmd/main.o,$(OBJS))
	$(call say,AR)
	$(Q)rm -f $@
	$(Q)$(AR) rcsT $@ $^

$(B)/fastboot-init: $(INIT_OBJS) $(B)/fastboot.a
	$(call say,LD)
	$(Q)$(CC) $(FB_LDFLAGS) $(INIT_LDFLAGS_$(VARIANT)) $(LDFLAGS) -o $@ $^ \
		$(if $(INIT_LDFLAGS_$(VARIANT)),$(INIT_LIBS),$(PKG_LIBS)) $(LDLIBS)

$(B)/%.o: src/%.c Makefile
	$(call say,CC)
	@mkdir -p $(@D)
	$(Q)$(CC) $(FB_CPPFLAGS) $(CPPFLAGS) $(PKG_CFLAGS) $(FB_CFLAGS) $(CFLAGS) -c -o $@ $<

$(B)/tests/unit/%.o: tests/unit/%.c Makefile
	$(call say,CC)
	@mkdir -p $(@D)
	$(Q)$(CC) $(FB_CPPFLAGS) $(CPPFLAGS) $(PKG_CFLAGS) $(FB_CFLAGS) $(CFLAGS) -c -o $@ $<

# The templates of `fastboot overlay`, as C strings.
DTS_TEMPLATES := disable memory region
build/dts/%.dtso.inc: dts/template/%.dtso.in Makefile
	@mkdir -p $(@D)
	$(Q)sed -e '/SPDX-License-Identifier/d' -e 's/["\\]/\\&/g' -e 's/.*/"&\\n"/' $< >$@

$(B)/format/dtb_overlay.o: $(DTS_TEMPLATES:%=build/dts/%.dtso.inc)
$(B)/format/dtb_overlay.o: FB_CPPFLAGS += -Ibuild/dts

# A test links only what it names: a hidden dependency shows as a link error.
define UNIT_TEST_RULE
$(B)/tests/unit/$(1): $(B)/tests/unit/$(1).o $($(1)_MODULES:%=$(B)/%.o)
	$$(call say,LD)
	$$(Q)$$(CC) $$(FB_LDFLAGS) $$(LDFLAGS) -o $$@ $$^ -lcmocka $$(PKG_LIBS) $$(LDLIBS)
endef
$(foreach t,$(UNIT_TESTS),$(eval $(call UNIT_TEST_RULE,$(t))))

.PHONY: unit-bins
unit-bins: $(UNIT_BINS)

.PHONY: check-unit
check-unit: ## build and run the unit tests (debug variant and sanitizers)
	$(MAKE) VARIANT=debug unit-bins
	$(MAKE) VARIANT=asan unit-bins
	scripts/test --unit

.PHONY: check-cli
check-cli: all ## run the command-line tests (no virtual machine)
	scripts/test --cli

.PHONY: check-vm
check-vm: ## run the tests that boot virtual machines
	$(MAKE) ARCH=$(NATIVE) all vmtools
	$(MAKE) ARCH=arm64 all vmtools
	scripts/test --vm

# Set-up first: the libraries must be there before make looks for them.
.PHONY: deps
deps: ## install the Debian packages that building and testing need
	scripts/deps $(if $(FOREIGN),--arch $(ARCH))

.PHONY: test
test: ## install what is missing, build everything, pass every test
	scripts/deps --arch arm64
	$(MAKE) ARCH=$(NATIVE) all vmtools
	$(MAKE) ARCH=$(NATIVE) VARIANT=debug unit-bins
	$(MAKE) ARCH=$(NATIVE) VARIANT=asan all unit-bins
	$(MAKE) ARCH=arm64 all vmtools
	$(MAKE) lint
	scripts/test

.PHONY: kernel
kernel: ## build a kernel that starts in a fraction of a second (kernel/README.md)
	kernel/build

.PHONY: demo
demo: deps ## a real reboot with a real redis in a virtual machine
	$(MAKE) all
	scripts/demo $(if $(filter arm64,$(ARCH)),arm64-)6.12

.PHONY: bench
bench: deps ## how long applications are away in a reboot (bench/README.md)
	$(MAKE) all
	scripts/bench

.PHONY: lint
lint: ## check the layers, the scripts, the manual pages, the C code
	scripts/lint

.PHONY: install
install: all ## install below DESTDIR and PREFIX (/usr)
	install -d $(DESTDIR)$(SBINDIR) $(DESTDIR)$(MANDIR)/man8 \
		$(DESTDIR)$(MANDIR)/man5 $(DESTDIR)$(DOCDIR)
	install -m 0755 $(B)/fastboot $(B)/fastboot-init $(DESTDIR)$(SBINDIR)/
	install -m 0644 man/fastboot.8 man/fastboot-init.8 $(DESTDIR)$(MANDIR)/man8/
	install -m 0644 man/fastboot.conf.5 $(DESTDIR)$(MANDIR)/man5/fastboot.conf.5
	install -m 0644 README.md SPEC.md LICENSE $(DESTDIR)$(DOCDIR)/
	install -d $(DESTDIR)$(DOCDIR)/dts/boards
	install -m 0644 dts/README.md $(DESTDIR)$(DOCDIR)/dts/
	install -m 0644 dts/boards/*.dts dts/boards/*.dtso $(DESTDIR)$(DOCDIR)/dts/boards/

.PHONY: uninstall
uninstall: ## remove what install put there
	rm -f $(DESTDIR)$(SBINDIR)/fastboot $(DESTDIR)$(SBINDIR)/fastboot-init \
		$(DESTDIR)$(MANDIR)/man8/fastboot.8 \
		$(DESTDIR)$(MANDIR)/man8/fastboot-init.8 \
		$(DESTDIR)$(MANDIR)/man5/fastboot.conf.5
	rm -rf $(DESTDIR)$(DOCDIR)

# ---- fuzzers: libFuzzer, so clang; each names the modules it compiles -------
FUZZERS := fuzz_acpi fuzz_bzimage fuzz_cmdline fuzz_dtb fuzz_image fuzz_timeline
fuzz_acpi_MODULES := format/acpi base/err base/range base/util
fuzz_bzimage_MODULES := $(test_bzimage_MODULES)
fuzz_cmdline_MODULES := $(test_cmdline_MODULES)
fuzz_dtb_MODULES := $(test_dtb_MODULES)
fuzz_image_MODULES := $(test_image_MODULES)
fuzz_timeline_MODULES := $(test_timeline_MODULES)
FUZZ_CC ?= clang
FUZZ_SECONDS ?= 60
FUZZ_CFLAGS := -std=gnu11 -O1 -g -fsanitize=fuzzer,address,undefined \
	-fno-sanitize-recover=undefined -pthread

.PHONY: fuzz-bins
fuzz-bins: $(FUZZERS:%=build/fuzz/%)

build/fuzz/fuzz_dtb: $(DTS_TEMPLATES:%=build/dts/%.dtso.inc)
build/fuzz/fuzz_dtb: FB_CPPFLAGS += -Ibuild/dts

define FUZZ_RULE
build/fuzz/$(1): tests/fuzz/$(1).c $($(1)_MODULES:%=src/%.c) Makefile
	$$(call say,FUZZ)
	@mkdir -p $$(@D)
	$$(Q)$$(FUZZ_CC) $$(FB_CPPFLAGS) $$(PKG_CFLAGS) $$(FUZZ_CFLAGS) -o $$@ \
		$$(filter %.c,$$^) $$(PKG_LIBS)
endef
$(foreach t,$(FUZZERS),$(eval $(call FUZZ_RULE,$(t))))

.PHONY: fuzz
fuzz: fuzz-bins ## fuzz each parser for FUZZ_SECONDS (60); needs clang
	scripts/fuzz $(FUZZ_SECONDS) $(FUZZERS)

.PHONY: clean
clean: ## remove build/
	rm -rf build

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

-include $(OBJS:.o=.d) $(INIT_OBJS:.o=.d) $(UNIT_BINS:%=%.d)
