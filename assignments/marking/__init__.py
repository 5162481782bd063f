"""The marker: hands out assignments and marks what comes back. Never installed.

    python -m assignments.marking --help          from the root of the repository

A submission is untrusted code. It runs in a sandbox (`sandbox`, `driver`) and gets inputs only;
what it answers is plain data, and is compared here, where the references are (`mark`).
"""
