#!/bin/sh
# Runs net/http's own tests, -short, over its Transport as it is and wrapped by
# tollgate's, and compares which of them pass. The tests are those of the Go that
# runs this; two lines of its net/http are changed by way of -overlay, in a
# temporary folder:
#
#   - Transport.RoundTrip hands the request to Wrap, which testdata/wrap_test.go sets
#   - Transport.CancelRequest, which knows a request by its address, looks for the
#     one that was sent in its place
#
# Arguments are passed on to go test, such as -race.
set -eu
cd "$(dirname "$0")"
src=$(go env GOROOT)/src/net/http
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# replace FILE OLD NEW puts a copy of net/http's file with another line into $tmp.
replace() {
	awk -v old="$2" -v new="$3" '$0 == old { $0 = new; n++ } { print } END { exit n != 1 }' "$src/$1" >"$tmp/$1" ||
		{ echo "$src/$1 does not have this line once: $2" >&2; exit 1; }
}
replace roundtrip.go '	return t.roundTrip(req)' '	return Wrap(t, t.roundTrip, req)'
replace transport.go '	cancel := t.reqCanceler[req]' '	cancel := t.reqCanceler[Sent(req)]'

cat >"$tmp/overlay.json" <<EOF
{"Replace": {
	"$src/roundtrip.go": "$tmp/roundtrip.go",
	"$src/transport.go": "$tmp/transport.go",
	"$src/wrap.go": "$PWD/testdata/wrap.go",
	"$src/wrap_test.go": "$PWD/testdata/wrap_test.go"
}}
EOF
GOWORK=off go test -c "$@" -overlay "$tmp/overlay.json" -o "$tmp/test" net/http

# passed FILE prints the names of the tests that passed.
passed() { sed -n 's/^ *--- PASS: \([^ ]*\) .*/\1/p' "$1" | LC_ALL=C sort; }

run() { (cd "$src" && TOLLGATE_WRAP=$1 "$tmp/test" -test.short -test.v -test.timeout 5m "-test.run=$2") || true; }

# Tests that measure time fail now and then on a busy machine: what did not pass has
# two more tries alone.
status=0
for how in none plain limits retry; do
	run $how . >"$tmp/log" 2>&1
	passed "$tmp/log" >"$tmp/$how"
	if [ $how = none ]; then
		sed -n 's/^ *--- FAIL: \([^ ]*\) .*/\1/p' "$tmp/log" | LC_ALL=C sort -u "$tmp/none" - >"$tmp/all"
	fi
	for again in 1 2; do
		for name in $(LC_ALL=C comm -23 "$tmp/all" "$tmp/$how" | cut -d/ -f1 | sort -u); do
			run $how "^$name\$" >"$tmp/again.log" 2>&1
			passed "$tmp/again.log" >>"$tmp/$how"
		done
		LC_ALL=C sort -u -o "$tmp/$how" "$tmp/$how"
	done
	printf '%-8s%5d passed\n' $how "$(wc -l <"$tmp/$how")"
	if ! LC_ALL=C comm -23 "$tmp/none" "$tmp/$how" | diff /dev/null - >"$tmp/missing"; then
		echo "passed without tollgate, and not with it:"
		sed -n 's/^> /  /p' "$tmp/missing"
		grep -E '^panic:|fatal error:|DATA RACE' "$tmp/log" || true
		status=1
	fi
done
exit $status
