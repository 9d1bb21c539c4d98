"""`python -m deblur`."""

from deblur.cli import main

if __name__ == "__main__":
    main()
