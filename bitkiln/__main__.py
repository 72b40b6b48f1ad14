"""``python -m bitkiln``: works where a console script's first line would not (folders with spaces)."""

from .cli import main

if __name__ == "__main__":
    main()
