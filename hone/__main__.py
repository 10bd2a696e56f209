"""`python -m hone`: the same as the command `hone`."""

from hone.cli import main

if __name__ == "__main__":
    main()
