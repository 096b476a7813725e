# The shell of a notebook: becomes the one that runs the cells, $_nb_shell or else bash or else this.

# Interactive, for then an interrupt or an error ends the cell and not the shell. What it says about the terminal that it
# does not have is of no use to anybody.
_nb_bash() {
    exec "$1" --noprofile --rcfile /dev/nbcontainer/bash --noediting -i 3>&2 2>/dev/null </dev/nbcontainer/input
}

case $_nb_shell in
'')
    if command -v bash >/dev/null 2>&1; then unset _nb_shell; _nb_bash "$(command -v bash)"; fi
    exec sh -s </dev/nbcontainer/input
    ;;
*)
    if ! command -v "$_nb_shell" >/dev/null; then
        echo "the image has no $_nb_shell" >&2
        exit 127
    fi
    case $("$_nb_shell" -c 'echo "$BASH_VERSION"') in ?*) _nb_bash "$_nb_shell" ;; esac
    exec "$_nb_shell" -s </dev/nbcontainer/input
    ;;
esac
