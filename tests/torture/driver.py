"""``python -m tests.torture.driver ARGUMENTS``: the ``ashwood`` command, with crash points where it is told to."""

from ashwood.cli.main import main
from tests.torture import points

if __name__ == "__main__":
    points.arm_driver()
    main()
