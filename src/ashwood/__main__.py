"""``python -m ashwood``: the command line."""

from ashwood.cli.main import main

if __name__ == "__main__":
    main()
