# What the shells of a kernel have in common. All that is ours begins with _nb_.
#
# A cell is a file. Lines on the pipe `control` say what to do, lines on the pipe `channel` say what came of it; both are
# opened for each line, so that the programs of a cell inherit neither. The shell's own commands come from the pipe
# `input`: the same loop each time, which is gone through anew after whatever ended the last one.

_nb_dir=/dev/nbcontainer
_nb_cell= _nb_status= _nb_running= _nb_late= _nb_last=0 _nb_seen=0 _nb_asked=0

# Without its pipes it cannot be told anything: it ends, and the notebook hears that.
_nb_leave() { trap - EXIT; command exit 1; }

_nb_say() {
    [ -p "$_nb_dir/channel" ] || _nb_leave
    command printf "$@" >"$_nb_dir/channel"
}

# A notebook is no terminal: its output goes when it is told so.
clear() { "$_nb_dir/bin/display" --clear "$@"; }

# Does what a cell does, for one that comes within a millisecond: its code and data are in the processor's cache then.
_nb_rehearse() {
    [ -p "$_nb_dir/channel" ] || return 0
    command printf '' >"$_nb_dir/channel"
    command . /dev/null
}

# Waits for the next cell; answers questions in between.
_nb_next() {
    while :; do
        # A signal may end a read, and ash may call that a success; part of a line is lost then. The notebook writes it
        # again until it is answered, so some come twice.
        _nb_word= _nb_number=
        IFS=' ' read -r _nb_word _nb_number _nb_input _nb_how _nb_hints <"$_nb_dir/control" ||
            [ -p "$_nb_dir/control" ] || _nb_leave
        case $_nb_number in
        '') _nb_rehearse; continue ;;
        *[!0-9]*) continue ;;
        esac
        case $_nb_word in
        run)
            [ "$_nb_number" -gt "$_nb_seen" ] || continue
            break
            ;;
        sync) _nb_say 'synced %s\n' "$_nb_number" ;;
        ask)
            if [ "$_nb_number" -gt "$_nb_asked" ]; then
                _nb_asked=$_nb_number
                (. "$_nb_dir/question") >|"$_nb_dir/answer" 2>/dev/null </dev/null
            fi
            _nb_say 'asked %s\n' "$_nb_number"
            ;;
        end) _nb_end ;;
        esac
    done
    _nb_late= _nb_status=
    _nb_cell=$_nb_number _nb_seen=$_nb_number
    _nb_prepare
    _nb_say 'begun %s %s\n' "$_nb_cell" "$_nb_how_to_end"
}

# Makes $? what the last cell left it.
_nb_was() { return "$_nb_last"; }

# Says how the cell ended (STATUS OPTIONS). Options that would get in our way hold while a cell runs, and the notebook sets
# them again for the next one.
_nb_done() {
    set +aefmuvxC
    _nb_running=
    _nb_flags=$2
    case $_nb_flags in *a*) _nb_private ;; esac
    _nb_last=$((${_nb_status:-$1} & 255))
    _nb_say 'done %s %s %s\n' "$_nb_cell" "$_nb_last" "$_nb_flags"
    _nb_cell=
}

# The loop begins (NUMBER OPTIONS): for the first time, or since something ended it with $_nb_code, and perhaps a cell.
_nb_begin() {
    _nb_running=
    _nb_say 'again %s\n' "$1"
    case $_nb_cell in ?*) _nb_ended "$_nb_code" "$2" ;; esac
}
