"""`python -m grading` is the command `hw2-grade`."""

from grading.cli.app import main

if __name__ == "__main__":
    main()
