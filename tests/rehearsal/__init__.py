"""The rehearsal: the project's GPU code at real size, on a machine without a GPU.

It runs over tensors that have shapes, dtypes, devices and sizes, but no numbers; see `fake_cuda`. `pytest -m rehearsal`
runs the short cases, as `make test` does. `python -m tests.rehearsal --check` runs all of them (some minutes) and
prints what each takes.
"""
