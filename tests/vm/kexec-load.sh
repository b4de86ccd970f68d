#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The way through kexec-tools, [kexec] method = kexec_load. The region lies 16 MiB
# below the end of the memory, where kexec-tools puts a kernel when nobody tells
# it of the region: it must not, hot-added or not, and the state must come
# through. Also what `auto` chooses, and why.
#
#   stage 1  what is chosen and where it goes, with the region raw, hot-added
#            -> kexec by kexec_load, chosen by `auto`
#   stage 2  the state is back -> kexec by kexec_load, configured
#   stage 3  the state is back
#
# vm-kernels: 6.12
# vm-more-kernels: 6.1
# vm-programs: kexec
# vm-add: tests/vm/tools/reboot.sh
# vm-region: 2G!8176M
# vm-timeout: 400

# shellcheck source=tests/vm/lib.sh
. /host/lib.sh
# shellcheck source=tests/vm/tools/reboot.sh
. /files/reboot.sh

stage=$1

# method NAME: what [kexec] method is from now on.
method() {
	mkdir -p /etc/fastboot.conf.d
	printf '[kexec]\nmethod = %s\n' "$1" >/etc/fastboot.conf.d/method.conf
}

# says NAME REGEX: a line of $OUTPUT matches.
says() {
	check_eq "$1" yes "$(printf '%s\n' "$OUTPUT" | grep -Eq "$2" && echo yes || echo "$OUTPUT")"
}

# inside: of the addresses that kexec-tools printed, those in the region.
inside() {
	sed -n 's/^segment.*\.mem *= 0x\([0-9a-f]*\)$/\1/p' "$1" | while read -r mem; do
		[ $((0x$mem)) -lt $((0x1ff000000)) ] || [ $((0x$mem)) -ge $((0x27f000000)) ] || echo "$mem"
	done
}

# The danger: without us a kernel is placed in the region. On the way the
# program's output is kept, which fastboot does not show.
unguarded() {
	kexec -d -c -i -l --initrd=/host/initrd --command-line=x /host/vmlinuz >/tmp/unguarded 2>&1
	kexec -u
	if [ -n "$(inside /tmp/unguarded)" ]; then
		ok "$1: by itself kexec-tools uses the region"
	else
		not_ok "$1: by itself kexec-tools uses the region" "$(grep '^segment' /tmp/unguarded)"
	fi
}

# A kexec in front of the real one that keeps what it says.
listen() {
	mkdir -p /spy
	cat >/spy/kexec <<-'END'
		#!/bin/sh
		/bin/kexec "$@" >/tmp/said 2>&1
		status=$?
		cat /tmp/said
		exit $status
	END
	chmod +x /spy/kexec
	export PATH="/spy:$PATH"
}

guarded() {
	check "$1: load" fastboot load || return
	says "$1: the method" '^method  *kexec_load: '
	says "$1: the proof" 'kexec-tools printed them$'
	says "$1: decompressed before" '^decompressed  ahead'
	check_eq "$1: it is loaded" 1 "$(cat /sys/kernel/kexec_loaded)"
	check "$1: kexec-tools told of segments" grep '^segment\[[0-9]*\]\.mem ' /tmp/said
	check_eq "$1: none in the region" "" "$(inside /tmp/said)"
}

# Where kexec-tools does not do what it was told, nothing stays loaded.
disobedient() {
	mkdir -p /bad
	cat >/bad/kexec <<-'END'
		#!/bin/sh
		for word; do
			shift
			case $word in --mem-m*) ;; *) set -- "$@" "$word" ;; esac
		done
		exec /bin/kexec "$@"
	END
	chmod +x /bad/kexec
	expect_status 1 "a segment in the region" env "PATH=/bad:$PATH" fastboot load
	says "a segment in the region: one line says so" '^fastboot: .*placed in the region'
	check_eq "a segment in the region: nothing stays loaded" 0 "$(cat /sys/kernel/kexec_loaded)"
	printf '#!/bin/sh\n/bin/kexec "$@" 2>/dev/null\n' >/bad/kexec
	expect_status 1 "no word of the segments" env "PATH=/bad:$PATH" fastboot load
	says "no word of the segments: one line says so" 'does not say where'
	check_eq "no word of the segments: nothing stays loaded" 0 "$(cat /sys/kernel/kexec_loaded)"
	printf '#!/bin/sh\necho "Cannot do it" >&2; exit 3\n' >/bad/kexec
	expect_status 1 "kexec-tools fails" env "PATH=/bad:$PATH" fastboot load
	says "kexec-tools fails: its words" 'failed: Cannot do it$'
}

choices() {
	expect_status 0 "auto without the kernel's configuration" fastboot -n load
	says "auto stays careful" '^method  *kexec_file_load: .*configuration is not known'
	mkdir -p /boot
	cp /host/config "/boot/config-$(uname -r)"
	expect_status 0 "auto without securityfs" fastboot -n load
	says "auto stays careful: lockdown" '^method  *kexec_file_load: .*mount securityfs'
	mount -t securityfs securityfs /sys/kernel/security
	expect_status 0 "auto" fastboot -n load
	says "auto takes kexec_load" '^method  *kexec_load: no signature is wanted'
	expect_status 0 "check" fastboot check
	says "check says so" '^ok  *kexec method  *kexec_load: '
	method kexec_file_load
	check "the other way" fastboot load
	says "the other way: the method" '^method  *kexec_file_load: configured'
	check "the other way: unload" fastboot load --unload
}

# go NAME: comes back only when it fails.
go() {
	digest >/host/digest
	fastboot reboot >/host/output 2>&1
	not_ok "$1" "fastboot reboot came back: $(tail -n 1 /host/output)"
	exit 1
}

# That the kernel which was decompressed for it has KASLR all the same: the flag that
# the decompressor would have set, from which the kernel chooses the addresses of its
# memory areas, and its own address, which is the usual one in one boot of 400.
has_kaslr() {
	check_eq "stage $stage: it was decompressed before" 1 \
		"$(grep -c '^decompressed  ahead' /host/output)"
	check_eq "stage $stage: KASLR_FLAG" 1 \
		$(($(dd if=/sys/kernel/boot_params/data bs=1 skip=529 count=1 2>/dev/null |
			od -An -tu1) >> 1 & 1))
	grep ' T _text$' /proc/kallsyms >>/host/addresses
}

arrive() {
	ok "stage $stage: the next kernel runs"
	cat /host/output
	has_kaslr
	check_eq "stage $stage: kexec_load was the way" 1 \
		"$(grep -c '^method  *kexec_load: ' /host/output)"
	check_eq "stage $stage: the region is there" '1ff000000-27effffff : Persistent Memory (legacy)' \
		"$(grep '^1ff000000-' /proc/iomem)"
	mount_state
	check "stage $stage: restore" fastboot restore || exit 1
	digest >/host/restored
	check_eq "stage $stage: all that was saved is back" "" \
		"$(diff /host/digest /host/restored | head -n 5)"
}

configure ''
case $stage in
1)
	mount_state
	choices
	method auto
	load_pmem
	unguarded "raw"
	listen
	guarded "raw"
	check "unload" fastboot load --unload
	check_eq "it is unloaded" 0 "$(cat /sys/kernel/kexec_loaded)"
	hot_add
	guarded "hot-added"
	check "unload again" fastboot load --unload
	disobedient
	seed
	big one 40
	go "auto"
	;;
2)
	arrive
	hot_add
	method kexec_load
	go "kexec_load, configured"
	;;
3)
	arrive
	check "its address was chosen" grep -v '^ffffffff81000000 ' /host/addresses
	finish
	;;
*) not_ok "stage $stage" "there should be three" ;;
esac
