# The experiments' common ground. Each sources this file: it finds the programs, starts servers on ports that the
# system chooses, and ends what it has started. Linux and Bash; PROGRAMS=DIRECTORY takes programs that are built already.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
if [ -z "${PROGRAMS:-}" ]; then
    [ -x "${CARGO_TARGET_DIR:-$root/target}/release/exercises" ] || echo "building the programs, once: some minutes" >&2
    (cd "$root" && cargo build --quiet --release --locked --bin echoloop &&
        cargo build --quiet --release --locked -p ladder -p ladder-top -p exercises --bins)
    PROGRAMS=${CARGO_TARGET_DIR:-$root/target}/release
fi
PATH="$PROGRAMS:$PATH"
scratch=$(mktemp -d)
children=()
trap 'exec 2>/dev/null; for child in "${children[@]}"; do kill -KILL "$child" || true; done; wait; rm -r "$scratch"' EXIT

# start PROGRAM [ARGUMENT…]: the server's process is $server, its address $address, its port $port.
start() {
    local output=$scratch/${#children[@]}
    "$@" </dev/null >"$output" 2>"$output.log" &
    server=$!
    log=$output.log
    children+=("$server")
    until grep -qs '^listening on' "$output"; do
        kill -0 "$server" || { cat "$output.log" >&2; exit 1; }
        sleep 0.01
    done
    address=$(sed -n 's|^listening on tcp://||p' "$output" | head -1)
    port=${address##*:}
}

# A step of the ladder, an exercise, or echoloop, by name.
start_step() {
    case $1 in
    echoloop) start "$1" -q 127.0.0.1:0 "${@:2}" ;;
    *) start "$1" 127.0.0.1:0 ;;
    esac
}

stop() { end "$server"; }

# until_true SECONDS COMMAND…: waits until the command succeeds; says so and fails if it has not by then.
until_true() {
    local end=$((SECONDS + $1))
    until "${@:2}"; do
        if [ $SECONDS -ge $end ]; then
            echo "not within $1 seconds: ${*:2}" >&2
            return 1
        fi
        sleep 0.02
    done
}

# Succeeds if each of these processes waits for something or has ended. A process that only lacks a processor is not asleep.
asleep() {
    local process
    for process; do
        ! grep -qs '^State:.[RDT]' "/proc/$process/status" || return 1
    done
}

# Waits until these processes have been asleep for a second, at twenty looks in a row: they have done what they will do.
until_idle() {
    local looks=0 end=$((SECONDS + 60))
    while [ $looks -lt 20 ] && [ $SECONDS -lt $end ]; do
        sleep 0.05
        if asleep "$@"; then looks=$((looks + 1)); else looks=0; fi
    done
}

# Ends a process that we have started, and says nothing of it.
end() {
    kill -KILL "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

# The processor time that a process has used, in ticks of a hundredth of a second.
ticks() {
    local fields
    read -ra fields <<<"$(sed 's/.*) //' "/proc/$1/stat")"
    echo $((fields[11] + fields[12]))
}

# How many of the server's sockets are in this state of /proc/net/tcp: 01 is ESTABLISHED, 08 CLOSE_WAIT.
sockets() {
    awk -v port="$(printf ':%04X' "$port")" -v state="$1" '$2 ~ port"$" && $4 == state' /proc/net/tcp | wc -l
}

# verdict PROGRAM NUMBER: the grade of a server by the grader of this exercise, without the details of a failure.
verdict() {
    local verdict
    verdict=$(exercises --program "$PROGRAMS/$1" "$2") || true
    printf '%-17s %s\n' "$1" "$(sed -E 's/^(red: [^:]*):.*/\1/' <<<"$verdict")"
}

mebibytes() { echo $(($1 / 1048576)); }
resident() { awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$1/status"; }
