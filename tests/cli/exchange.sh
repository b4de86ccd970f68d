#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The images of tests/golden/ that each architecture wrote of the same tree
# (tests/vm/tools/exchange.sh): here all are read. tests/vm/exchange.sh reads on the
# other one, and says where a new one comes from.

# shellcheck source=tests/cli/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm/tools/exchange.sh
. "$REPO/tests/vm/tools/exchange.sh"

[ "$(id -u)" -eq 0 ] || skip_all "needs root for owners and devices"
mkdir -m 0751 "$WORK/made"
exchange_make "$WORK/made"
exchange_list "$WORK/made" >"$WORK/wanted"
for golden in "$REPO"/tests/golden/exchange-*.img.xz; do
	name=$(basename "$golden" .img.xz)
	image=$WORK/$name.img
	xz -dc "$golden" >"$image"
	check "$name: verify" "$FASTBOOT" image verify "$image"
	check "$name: fsck.erofs" fsck.erofs "$image"
	check "$name: show" "$FASTBOOT" image show "$image"
	check_match "$name: by what it says" "^by .*\(${name#exchange-}\)" "$OUTPUT"
	check "$name: extract" "$FASTBOOT" image extract "$image" --to "$WORK/$name"
	exchange_list "$WORK/$name/run/exchange" >"$WORK/$name.list"
	check_eq "$name: all of it is there" "" "$(diff "$WORK/wanted" "$WORK/$name.list" | head -n 5)"
done
finish
