"""Every reader of foreign bytes, called with mutated files: only the errors that it documents may come out.

`targets_grading` and `targets_hw2` are the tables of readers, `mutate` changes valid files, `engine` reads them and
checks what happens. The short form runs with all tests; `python -m tests.fuzz --seconds 3600` is the long one.
"""
