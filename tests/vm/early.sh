#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# fastboot-init as the first process: the state is there before the system's
# own init starts, and without a state the system starts all the same.
#
#   stage 1  the usual init                                  -> kexec by hand
#   stage 2  fastboot-init, no image                         -> fastboot reboot
#   stage 3  restored lazily                                 -> fastboot reboot
#   stage 4  restored eagerly; the metadata is damaged then  -> kexec by hand
#   stage 5  boots on; a file's data is damaged then         -> kexec by hand
#   stage 6  the file is withheld                            -> kexec by hand
#   stage 7  called for another root, which is switched to
#
# A kernel of ours starts the first process beside the drivers, but for stage 4.
#
# vm-kernels: fast
# vm-more-kernels: 6.12
# vm-programs: kexec
# vm-add: tests/vm/tools/reboot.sh tests/vm/tools/early-init build/release/fastboot-init build/vmtools/mktree
# vm-append: libnvdimm.pagemap=0
# vm-timeout: 900

# shellcheck source=tests/vm/lib.sh
. /host/lib.sh
# shellcheck source=tests/vm/tools/reboot.sh
. /files/reboot.sh

stage=$1

# Directly where nothing must be loaded: no shell then.
first_program() {
	if modprobe -n nd_pmem 2>/dev/null && [ -d "/lib/modules/$(uname -r)/kernel/drivers/nvdimm" ]; then
		echo /bin/early-init
	else
		echo /bin/fastboot-init
	fi
}

# by_hand WORD…: the same kernel again, with more words.
by_hand() {
	kexec -s -l --initrd=/host/initrd --command-line="$(cat /proc/cmdline) $*" /host/vmlinuz &&
		kexec -e -x
	not_ok "stage $stage: kexec" "it came back"
	exit 1
}

# reboot_with OPTION…
reboot_with() {
	fastboot reboot "$@" >/host/output 2>&1
	not_ok "stage $stage: reboot" "fastboot reboot came back: $(tail -n 1 /host/output)"
	exit 1
}

fill() {
	mkdir -p $state/nasty $state/small
	mktree nasty $state/nasty >/dev/null
	mktree small $state/small 600 >/dev/null
	seed
	big first 20
	big second 90
	digest >/host/digest
}

# lines LEVEL: what fastboot-init said to the kernel's log. A program's levels
# are 8 to 15: 8 to 12 are what a console shows, 14 is information.
shown='\(8\|9\|1[0-2]\)'
lines() { dmesg -r | grep "^<$1>.* fastboot-init: "; }

wait_done() {
	wait_for 120 grep -q '"state":"\(done\|damaged\)"' /run/fastboot/restore.json
}

# What the last stage saved is back, and was it when init started.
same() {
	check_eq "$1: it is a mount" tmpfs "$(awk -v at=$state '$2 == at { print $3 }' /proc/mounts)"
	check_eq "$1: a file opened at once" "$(grep ' ./first$' /host/digest)" \
		"$(cd $state && md5sum ./first)"
	digest >/host/restored
	check_eq "$1: all that was saved is back" "" "$(diff /host/digest /host/restored | head -n 5)"
	check_eq "$1: nothing to complain about" "" "$(lines "$shown")"
}

# number_at OFFSET SIZE: a number of the region's, little-endian.
number_at() { dd if=/dev/pmem0 bs=1 skip="$1" count="$2" 2>/dev/null | od -An -tu"$2" | tr -d ' '; }

damage() { printf 'damage' | dd of=/dev/pmem0 bs=1 seek="$1" conv=notrunc,fsync 2>/dev/null; }

# Whether the first process was started before the drivers: only ours can.
early() { [ "$(logged 'Run ')" -ge "$(logged 'Freeing unused kernel ')" ] || echo yes; }
uname -r | grep -q fastboot && ours=yes || ours=

# stamped PHASE: the counter.
stamped() { awk -v phase="$1" '$1 == "stamp" && $2 == phase { print $3 }' /run/fastboot/timeline; }

configure ''
sed -i '/hooks/,$d' /etc/fastboot.conf
case $stage in
1)
	by_hand "rdinit=$(first_program) fastboot.init=/init rdinit_early"
	;;
2)
	ok "no image: the system starts"
	check_eq "no image: beside the drivers" "$ours" "$(early)"
	check_eq "no image: what follows has a console" /dev/console "$(cat /run/init.stdout)"
	check_eq "no image: one line in the log" 1 "$(lines 14 | grep -c 'no image')"
	check_eq "no image: nothing on the console" "" "$(lines "$shown")"
	check "no image: status" fastboot status
	check_eq "no image: the region has a memory map where the kernel does not know better" "${ours:+0}" \
		"$(grep -qs N /sys/module/libnvdimm/parameters/pagemap && cat /sys/block/pmem0/queue/dax)"
	mount_state
	fill
	hot_add
	reboot_with --command-line "$(cat /proc/cmdline) fastboot.wait=no"
	;;
3)
	if grep -q '"state":"filling"' /run/fastboot/restore.json; then
		ok "lazy: it is being filled"
		keeper=$(sed -n 's/.*"keeper":\([0-9]*\).*/\1/p' /run/fastboot/restore.json)
		check_eq "lazy: systemd would spare the process" @ "$(head -c 1 "/proc/$keeper/cmdline")"
	fi
	same "lazy"
	wait_done
	check_eq "lazy: done" 1 "$(grep -c '"state":"done"' /run/fastboot/restore.json)"
	for phase in 13 14 15; do
		check_eq "lazy: stamp $phase" 1 "$(grep -c "^stamp $phase " /run/fastboot/timeline)"
	done
	check_eq "lazy: beside the drivers" "$ours" "$(early)"
	hz=$(sed -n 's/^counter_hz //p' /run/fastboot/timeline)
	figure "from where the restore begins to the state, $(uname -r)" "$(awk -v hz="$hz" '
		$1 == "stamp" { at[$2] = $3 }
		END { printf "%.1f", (at[15] - at[20]) * 1000 / hz }' /run/fastboot/timeline)" ms "emulated; about 620 files"
	hot_add
	fill
	reboot_with --command-line "$(sed 's/ rdinit_early\| fastboot.wait=no//g' /proc/cmdline) fastboot.mode=eager"
	;;
4)
	check_eq "eager: nothing goes on" "" "$(cat /run/fastboot/restore.json 2>/dev/null)"
	same "eager"
	check "save" fastboot save || exit 1
	damage $(($(number_at 48 8) + 200))
	by_hand rdinit_early
	;;
5)
	ok "damaged metadata: the system starts"
	check_eq "damaged metadata: one line" 1 "$(lines "$shown" | grep -c 'damaged')"
	check_eq "damaged metadata: nothing else" 1 "$(lines '.*' | grep -c .)"
	check_eq "damaged metadata: beside the drivers" "$ours" "$(early)"
	check_eq "damaged metadata: nothing restored" "" "$(ls $state 2>/dev/null)"
	mount_state
	fill
	check "save" fastboot save --replace || exit 1
	# The first block of the first run in the digest table.
	damage $(($(number_at "$(number_at 112 8)" 4) * 4096 + 9))
	by_hand fastboot.mode=lazy
	;;
6)
	wait_done
	check_eq "damaged data: found" 1 "$(grep -c '"state":"damaged"' /run/fastboot/restore.json)"
	digest >/host/restored
	check_eq "damaged data: one file is missing, the others are right" 1 \
		"$(diff /host/digest /host/restored | sed -n 's/^[-+]\\\{0,1\}[0-9a-f]\{32\}  //p' | sort -u | grep -c .)"
	check_eq "damaged data: it is named" 1 "$(dmesg | grep -c 'is damaged and is withheld')"
	expect_status 1 "damaged data: the image is kept" fastboot hotadd
	umount $state
	mount_state
	fill
	check "save" fastboot save --replace || exit 1
	by_hand "rdinit=/bin/early-init early.root"
	;;
7)
	check_eq "another root: it was switched to" newroot "$(awk '$2 == "/" { print $1 }' /proc/mounts | tail -n 1)"
	same "another root"
	wait_done
	check_eq "another root: done" 1 "$(grep -c '"state":"done"' /run/fastboot/restore.json)"
	hot_add
	finish
	;;
*) not_ok "stage $stage" "there should be seven" ;;
esac
