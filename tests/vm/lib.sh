# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The guest's side of a VM test; POSIX shell, run by dash.  A test is a
# script tests/vm/NAME.sh that begins with
#
#   # vm-kernels: 6.12 6.1        kernels to run on (default: both); fast is the
#                                 one that kernel/build makes; arm64-6.12 …
#   # vm-more-kernels: 6.1        with scripts/test --all-kernels; alone: only then
#   # vm-programs: ndctl kexec    host programs to take along, with libraries
#   # vm-add: HOST[:GUEST] …      files to take along, relative to the repository
#   # vm-modules: nvme ahci       kernel modules beside the usual ones
#   # vm-devices: nvme sata       empty disks of 64 MiB (virtio-blk nvme sata), and
#                                 virtio-net: at 10.0.2.2 TFTP has /host's files
#   # vm-timeout: 300             seconds until the guest is killed
#   # vm-mem: 8G  # vm-smp: 2  # vm-cpu: max  # vm-region: 2G!4G|none  # vm-append: TEXT
#   # vm-firmware: uefi           arm64: with ACPI, and no region
#   # vm-numa: 6G 2G            NUMA nodes, and what of vm-mem each has
#   # vm-allow-reset: yes         a reset boots again instead of ending the run
#   # vm-expect-log: REGEX        kernel complaints that this test provokes; name
#                                 'Call Trace' too when the complaint brings one
#
# (one header a line), sources this file as /host/lib.sh, and does what its
# first argument, the stage, says: 1 is the first boot, 2 the boot after the
# first kexec or reset, and so on.
#
# Results go line by line to /host/results, which the host judges: a guest in
# which nothing was checked, or which never said `finish`, has failed.

VM_RESULTS=${VM_RESULTS:-/host/results}

# One line a result, whatever the text holds.
vm_record() { printf '%s\n' "$(printf '%s' "$*" | tr '\n' ' ')" | tee -a "$VM_RESULTS"; }

# ok NAME
ok() { vm_record "ok - $1"; }

# not_ok NAME WHY
not_ok() { vm_record "not ok - $1: ${2-}"; }

# skip NAME WHY: the prerequisite that is missing is named in WHY.
skip() { vm_record "skip - $1: ${2-}"; }

# figure NAME VALUE UNIT [NOTE]: something measured, for the table at the end.
figure() { vm_record "figure - $1	$2	$3	${4-}"; }

# finish: the whole test came to its end; the guest may power off.
finish() { vm_record "finish"; }

# check_eq NAME WANTED GOT
check_eq() {
	if [ "$2" = "$3" ]; then
		ok "$1"
	else
		not_ok "$1" "wanted '$2', got '$3'"
	fi
}

# check NAME CMD…: ok if the command succeeds.
check() {
	vm_name=$1
	shift
	expect_status 0 "$vm_name" "$@"
}

# expect_status N NAME CMD…: runs it; what it printed is in $OUTPUT afterwards
# (stdout and stderr together) and its status in $STATUS.  Returns 1 on the
# wrong status, so that a test can stop there.
expect_status() {
	vm_wanted=$1 vm_name=$2
	shift 2
	STATUS=0
	OUTPUT=$("$@" 2>&1) || STATUS=$?
	[ -z "$OUTPUT" ] || printf '%s\n' "$OUTPUT"
	if [ "$STATUS" -eq "$vm_wanted" ]; then
		ok "$vm_name"
	else
		not_ok "$vm_name" "status $STATUS instead of $vm_wanted: $OUTPUT"
		return 1
	fi
}

# wait_for SECONDS CMD…: until the command succeeds.
wait_for() {
	vm_tries=$(($1 * 10))
	shift
	while ! "$@" >/dev/null 2>&1; do
		vm_tries=$((vm_tries - 1))
		[ "$vm_tries" -gt 0 ] || return 1
		sleep 0.1
	done
}

# logged TEXT: when the kernel's log says so, in microseconds.
logged() { dmesg | sed -n "s/^\\[ *\\([0-9]*\\)\\.\\([0-9]*\\)\\] $1.*/\\1\\2/p" | head -n 1; }

# seconds_since_boot: with two digits, for figures.
seconds_since_boot() { cut -d' ' -f1 /proc/uptime; }

# load_pmem: what fastboot does through libkmod, for tests that work by hand.
load_pmem() {
	case $(uname -m) in aarch64) set -- of_pmem ;; *) set -- nd_e820 ;; esac
	modprobe -a "$1" nd_pmem dax_pmem device_dax kmem &&
		wait_for 10 test -b /dev/pmem0
}

# kexec_by_hand [OPTION…]: the same kernel, initramfs and command line again,
# with kexec-tools (vm-programs: kexec).  Comes back only if it failed.
kexec_by_hand() {
	kexec -s -l "$@" --initrd=/host/initrd --command-line="$(cat /proc/cmdline)" /host/vmlinuz || return
	sync
	kexec -e -x
}
