# Sourced by the scripts beside it: what they say, and how they fail.

# Programs that administrators use are not on every ordinary user's PATH.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

# step NAME COMMAND...: says what begins, runs it, says how long it took; fails as the command does.
step() {
    local name=$1 begin=$SECONDS status=0
    shift
    printf '\n==> %s\n' "$name"
    "$@" || status=$?
    if [ "$status" -eq 0 ]; then
        printf '<== %s: done in %d s\n' "$name" "$((SECONDS - begin))"
    else
        printf '<== %s: FAILED (exit %d) after %d s\n' "$name" "$status" "$((SECONDS - begin))" >&2
    fi
    return "$status"
}

# fail MESSAGE: says what is wrong, in one sentence, and ends the script.
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

has() {
    command -v "$1" >/dev/null 2>&1
}
