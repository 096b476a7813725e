# From here to its end, an error ends the cell and nothing else.
_nb_running=1
_nb_check
_nb_was
. /dev/nbcontainer/cell
{ _nb_status=${_nb_status:-$?} _nb_running=; } 2>/dev/null
