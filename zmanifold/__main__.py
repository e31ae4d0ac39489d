"""``python -m zmanifold`` is the command ``zmanifold``."""

from zmanifold.cli import main

if __name__ == "__main__":
    main()
