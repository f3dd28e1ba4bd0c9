"""``python -m conjoin`` is the ``conjoin`` command."""

from conjoin.cli.entry import main

if __name__ == "__main__":
    main()
