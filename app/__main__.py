"""``python -m app``."""

if __name__ == "__main__":  # the process of the checks imports this file too, and needs no command line
    from app.cli import main

    main()
