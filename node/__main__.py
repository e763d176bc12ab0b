"""`python -m node` is the command fednode: for processes that start one another."""

from node.cli import main

if __name__ == "__main__":
    main()
