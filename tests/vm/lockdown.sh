#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A machine that demands signed kernels (lockdown=integrity): what the kernel
# refuses is one clear line, and nothing stays loaded.
#
# vm-append: lockdown=integrity
# vm-timeout: 200

# shellcheck source=tests/vm/lib.sh
. /host/lib.sh

mount -t securityfs securityfs /sys/kernel/security
check_eq "the guest is locked down" '[integrity]' \
	"$(grep -o '\[integrity\]' /sys/kernel/security/lockdown)"
cp /host/vmlinuz /tmp/vmlinuz

expect_status 1 "a kernel without a signature that counts" \
	fastboot load --kernel /tmp/vmlinuz --initrd /host/initrd
echo "$OUTPUT" | sed 's/^/    /'
case $OUTPUT in
*/tmp/vmlinuz*sign*) ok "the line names the kernel and the signature" ;;
*) not_ok "the line names the kernel and the signature" "$OUTPUT" ;;
esac
check_eq "no kernel is loaded" 0 "$(cat /sys/kernel/kexec_loaded)"

expect_status 0 "check" fastboot check
check_eq "check says it beforehand" 1 "$(echo "$OUTPUT" | grep -c '^note *lockdown .*must be signed')"
finish
