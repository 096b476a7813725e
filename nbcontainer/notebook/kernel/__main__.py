"""`python -m nbcontainer.notebook.kernel -f CONNECTION_FILE`."""

from nbcontainer.containers.engine import default_engine
from nbcontainer.containers.startup import start

start(default_engine())  # the launcher comes up while Jupyter's part is imported

from nbcontainer.notebook.kernel.app import main  # noqa: E402

main()
