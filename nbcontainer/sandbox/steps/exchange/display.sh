#!/bin/sh
# Shows files in the notebook: a picture, a page, a formula, data.
usage() {
    cat <<'END'
usage: display [-t TYPE] FILE...
       display -t TYPE < DATA
       display --clear [--wait]

Shows FILE in the notebook. TYPE is png, jpeg, gif, webp, svg, html, json, markdown, latex, text or any MIME type;
without it, the file's name says it. --clear takes the cell's output away, with --wait when the next comes.
END
}

fail() {
    echo "display: $1" >&2
    exit "${2:-1}"
}

umask 022  # the notebook reads it, as whoever it is
dir=/dev/nbcontainer
[ -p "$dir/channel" ] || fail "this run has no notebook to show it in"

mime_of() {
    case $1 in
    png | PNG) echo image/png ;;
    jpg | jpeg | JPG | JPEG) echo image/jpeg ;;
    gif | GIF) echo image/gif ;;
    webp) echo image/webp ;;
    svg) echo image/svg+xml ;;
    html | htm) echo text/html ;;
    json) echo application/json ;;
    geojson) echo application/geo+json ;;
    md | markdown) echo text/markdown ;;
    tex | latex) echo text/latex ;;
    txt | text) echo text/plain ;;
    */*) echo "$1" ;;
    *) return 1 ;;
    esac
}

# Tells the notebook (WORDS...), and waits until it has done it: what is written next is to come after it.
tell() {
    sign=$dir/shown/$$.sign
    trap 'rm -f "$sign" "$copy"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    mkfifo -m 666 "$sign" && exec 9<>"$sign" || fail "cannot ask the notebook"
    printf '%s %s\n' "$*" "$$.sign" >"$dir/channel"
    read -r refusal <&9
    exec 9<&-
    rm -f "$sign" "$copy"
    [ -z "$refusal" ] || fail "$refusal"
}

# The notebook reads a copy, made before it is told: what becomes of the file then is of no matter.
show() {
    ending=${1##*/}
    case $ending in *.*) ending=${ending##*.} ;; *) ending= ;; esac
    mime=$(mime_of "${type:-$ending}") || fail "cannot tell what $1 is; name its type with -t, as in -t png" 2
    case $mime in *[!A-Za-z0-9.+/_-]*) fail "$mime is no MIME type" 2 ;; esac
    copy=$dir/shown/$$.copy
    trap 'rm -f "$copy"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    if [ "$1" = - ]; then cat; else cat -- "$1"; fi >"$copy" || fail "cannot read $1, or /dev is full"
    tell display "$mime" "$$.copy"
}

type= copy= sign=
while :; do
    case $1 in
    -h | --help) usage; exit 0 ;;
    --clear)
        wait=0
        [ "$2" = --wait ] && wait=1
        tell clear "$wait"
        exit 0
        ;;
    -t | --type)
        [ $# -ge 2 ] || fail "-t has no type" 2
        type=$2
        shift 2
        ;;
    --) shift; break ;;
    -?*) fail "unknown option $1; see display --help" 2 ;;
    *) break ;;
    esac
done
if [ $# -eq 0 ]; then
    [ -n "$type" ] || fail "no file; see display --help" 2
    set -- -
fi
for file; do show "$file"; done
