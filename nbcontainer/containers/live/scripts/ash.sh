# dash and busybox's ash. Neither is interactive here. Three things keep the shell when a cell ends early:
#
# `command . FILE` swallows whatever error ends FILE, syntax errors too. `exit` is an alias of a function that makes such
# an error. And what really is an exit, of `set -e` for one, is caught by a trap: from there on a copy of the shell goes
# on, with all but its jobs, while the shell waits in case the copy ends. In an ash that is a copy no such trap is called
# any more, so a copy runs every cell that may end it in a copy of its own.

. /dev/nbcontainer/common

_nb_throw() { : "${_nb_unset?}"; } 2>/dev/null

# A signal may end the read.
_nb_find() {
    _nb_pid=
    until [ -n "$_nb_pid" ]; do IFS=' ' read -r _nb_pid _nb_rest </proc/self/stat || :; done
}

# In a subshell. To read the file takes two system calls for each of its bytes, so the shell itself, whose answer comes
# after each cell, compares two inodes first.
if [ / -ef /. ] 2>/dev/null; then
    _nb_inside() {
        if [ /proc/self -ef "/proc/$_nb_self" ]; then return 1; fi
        _nb_find
        [ "$_nb_pid" != "$_nb_self" ]
    }
else
    _nb_inside() {
        _nb_find
        [ "$_nb_pid" != "$_nb_self" ]
    }
fi

_nb_exit() {
    _nb_status=${1:-$?}
    if _nb_inside; then exit "$_nb_status"; fi
    case $_nb_status in *[!0-9]*) _nb_status=2 ;; esac
    _nb_throw
}

# SIGURG, which nothing else uses and everything else ignores: it comes along with an interrupt's SIGINT, and ends the
# cell also where its program took that for something else.
_nb_interrupt() {
    case $_nb_running,$_nb_cell in
    1,*) _nb_status=130; _nb_throw ;;
    ,?*) _nb_late=1 ;;
    esac
}

_nb_check() { case $_nb_late in 1) _nb_status=130; _nb_throw ;; esac; }

_nb_prepare() { :; }

_nb_traps() {
    trap : INT
    trap _nb_interrupt URG
    trap '_nb_exited "$?"' EXIT
}

# After a cell (STATUS OPTIONS). In a subshell that an error brought here, which ash lets happen, there is nothing to do but
# end: the shell itself waits for it.
_nb_ended() {
    set +a
    if _nb_inside; then exit "$1"; fi
    case $_nb_late in 1) _nb_status=130 ;; esac
    case $_nb_hints in *t*)
        case $(trap) in *INT*) ;; *) trap : INT ;; esac
        case $(trap) in *EXIT*) ;; *) trap '_nb_exited "$?"' EXIT ;; esac
        ;;
    esac
    _nb_done "$@"
}

# There is no way back from an export but to make the variable anew.
_nb_private() {
    set -- "$_nb_status" "$_nb_running" "$_nb_late" "$_nb_flags" "$_nb_pid"
    unset _nb_status _nb_running _nb_late _nb_flags _nb_pid _nb_rest _nb_code
    _nb_status=$1 _nb_running=$2 _nb_late=$3 _nb_flags=$4 _nb_pid=$5
}

# The shell exits (STATUS), and does not.
_nb_exited() {
    case $_nb_leaving in ?*) return ;; esac
    _nb_ended "$1" "$-"
    _nb_saved=$(trap)
    while :; do
        (_nb_copy; while :; do _nb_loop; done)
        _nb_fell "$?"
    done
}

# The loop of a copy. A function, so that no `break` of a cell's gets further than this.
_nb_loop() {
    while _nb_next; do
        case $_nb_hints in
        *r*)
            _nb_saved=$(trap)
            (_nb_copy; _nb_one; while :; do _nb_loop; done)
            _nb_fell "$?"
            ;;
        *) _nb_one ;;
        esac
    done
}

_nb_one() {
    case $_nb_how in
    program) "$_nb_dir/cell" <"$_nb_input" ;;
    *) command . "$_nb_dir/go" <"$_nb_input" ;;
    esac
    { _nb_ended "$?" "$-"; } 2>/dev/null
}

_nb_copy() {
    _nb_find
    _nb_self=$_nb_pid
    eval "$_nb_saved"
    _nb_traps
}

# The copy that ran the cells since then has ended (STATUS).
_nb_fell() {
    _nb_cell=
    case $1,$_nb_leaving in 99,*) _nb_end ;; esac
    _nb_say 'fell %s\n' "$1"
}

_nb_end() {
    _nb_leaving=1
    case $_nb_self in "$$") exit 0 ;; esac
    exit 99
}

_nb_restore() { _nb_code=$1; }

_nb_self=$$ _nb_leaving= _nb_what=go _nb_how_to_end=both
_nb_traps
alias exit=_nb_exit
