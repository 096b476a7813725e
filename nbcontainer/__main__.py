"""`python -m nbcontainer`: the same as the console script `nbcontainer`."""

from nbcontainer.cli import main

if __name__ == "__main__":
    main()
