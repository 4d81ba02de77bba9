"""`python -m transfer3d`, and so `accelerate launch -m transfer3d`."""

from transfer3d.cli.main import main

if __name__ == "__main__":
    main()
