#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A machine that demands signed kernels (lockdown=integrity): what the kernel
# refuses is one clear line, and nothing stays loaded; [kexec] method = auto
# stays with the call that checks signatures, and kexec_load is refused.
#
# vm-kernels: 6.12
# vm-more-kernels: 6.1
# vm-append: lockdown=integrity
# vm-programs: kexec
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

mkdir -p /boot
cp /host/config "/boot/config-$(uname -r)"
expect_status 0 "auto" fastboot -n load --kernel /tmp/vmlinuz
check_eq "auto keeps to kexec_file_load" 1 \
	"$(echo "$OUTPUT" | grep -c '^method  *kexec_file_load: the kernel is locked down (integrity)$')"
printf '[kexec]\nmethod = kexec_load\n' >/tmp/load.conf
expect_status 1 "kexec_load is refused" fastboot -c /tmp/load.conf load --kernel /tmp/vmlinuz
check_eq "it says why" 1 "$(echo "$OUTPUT" | grep -c 'locked down (integrity): use kexec_file_load')"
check_eq "in one line" 1 "$(echo "$OUTPUT" | grep -c .)"
check_eq "still no kernel is loaded" 0 "$(cat /sys/kernel/kexec_loaded)"
expect_status 255 "the kernel agrees" kexec -c -i -l --command-line=x /tmp/vmlinuz

expect_status 0 "check" fastboot check
check_eq "check says which call" 1 \
	"$(echo "$OUTPUT" | grep -c '^ok *kexec method *kexec_file_load: the kernel is locked down')"
check_eq "check says it beforehand" 1 "$(echo "$OUTPUT" | grep -c '^note *signature .*locked down (integrity): the next kernel must be signed')"
finish
