# bash, interactive but for its line editor. An interrupt, an error in an expansion and a syntax error end the cell and
# not the shell, by themselves. `exit` and `set -e` do it by interrupting.

unset HISTFILE MAILCHECK
set +H +o history
shopt -s execfail
PS1= PS2=
exec 2>&3 3>&-

. /dev/nbcontainer/common

# Ends the cell from however deep in it, without the empty line that bash writes then. What it puts away for that, a
# trap of the cell's own too, comes back with the next turn.
_nb_throw() {
    _nb_int=$(trap -p INT)
    trap - INT
    exec {_nb_err}>&2 2>/dev/null
    kill -INT $$
}

_nb_restore() {
    _nb_code=$1
    case $_nb_int in ?*) eval "$_nb_int"; _nb_int= ;; esac
    case $_nb_err in ?*) exec 2>&"$_nb_err" {_nb_err}>&-; _nb_err= ;; esac
}

exit() {
    local code=${1:-$?}
    if [[ $BASHPID != "$$" ]]; then builtin exit "$code"; fi
    case $code in *[!0-9]*) code=2 ;; esac
    _nb_status=$code
    _nb_throw
}

# A command failed (STATUS): with `set -e`, the end of the cell. bash forgets the trap on errors for good where another
# trap's action ends the cell from in here, so that one leaves it to this; and the last command must be what looks.
_nb_error() {
    [[ $BASHPID == "$$" ]] || return 0
    case $- in *e*) _nb_status=$1 _nb_late=1 ;; esac
    case $_nb_late in ?*) _nb_throw ;; esac
}

# SIGURG, which nothing else uses and everything else ignores: it comes along with an interrupt's SIGINT, and ends the
# cell also where its program took that for something else.
_nb_interrupt() {
    case $_nb_cell in '') return ;; esac
    _nb_status=130
    case " ${FUNCNAME[*]} " in *' _nb_error '*) _nb_late=1 ;; *) _nb_throw ;; esac
}

# Only a cell that may `set -e` has a trap on errors, and only if that has none of its own. With one, the signals of an
# interrupt must not come together.
_nb_prepare() {
    _nb_how_to_end=both
    case $_nb_hints in *e*)
        _nb_how_to_end=one
        case $(trap -p ERR) in
        '')
            trap '_nb_error "$?"' ERR
            set -E
            _nb_trapped=1
            ;;
        esac
        ;;
    esac
}

_nb_private() { export -n "${!_nb_@}"; }

_nb_ended() {
    case $_nb_trapped in 1)
        _nb_trapped=
        set +E
        case $(trap -p ERR) in *_nb_error*) trap - ERR ;; esac
        ;;
    esac
    _nb_done "$@"
}

_nb_end() { builtin exit; } 2>/dev/null

_nb_int= _nb_err= _nb_trapped= _nb_what=cell
trap _nb_interrupt URG
