#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Images that one architecture writes and another reads: the one of x86-64 in
# tests/golden/ is read here, as tests/cli/exchange.sh reads the one of arm64 on
# this machine. An image that is made here is left in /host, to be kept.
#
# vm-kernels: arm64-6.12
# vm-programs: getfattr setfattr seq stat md5sum touch
# vm-add: tests/vm/tools/exchange.sh tests/golden/exchange-x86_64.img.xz
# vm-timeout: 200

# shellcheck source=tests/vm/lib.sh
. /host/lib.sh
# shellcheck source=tests/vm/tools/exchange.sh
. /files/exchange.sh

state=/run/exchange image=/run/x86_64.img
mkdir $state
mount -t tmpfs -o mode=0751 exchange $state
exchange_make $state
exchange_list $state >/run/wanted

xz -dc /files/exchange-x86_64.img.xz >$image
check "an image of x86-64: verify" fastboot image verify $image
check "an image of x86-64: show" fastboot image show $image
check_eq "an image of x86-64: it is one" 1 "$(printf '%s\n' "$OUTPUT" | grep -c '(x86_64)')"
rm -rf ${state:?}/*
check "an image of x86-64: restore" fastboot restore --from $image
exchange_list $state >/run/restored
check_eq "an image of x86-64: all of it is there" "" "$(diff /run/wanted /run/restored | head -n 5)"

check "the same through the region: save" fastboot save $state
rm -rf ${state:?}/*
check "the same through the region: restore" fastboot restore
exchange_list $state >/run/restored
check_eq "the same through the region: all of it is there" "" \
	"$(diff /run/wanted /run/restored | head -n 5)"

check "an image to be kept" fastboot save --to "/run/$(uname -m).img" $state
cp "/run/$(uname -m).img" /host/
finish
