"""The compiled helper (`helper.c`): a server that clones inits, and the init of a container.

The steps of a plan run in the notebook, with a `RemoteKernel`. Each call of a step becomes an operation: the number of
the system call, its arguments, and the expected outcome. One packet has all operations of a plan. Init makes the calls
in order, compares each outcome, and stops at the first one that differs. Then `RemoteInit` runs that step again with
the outcomes that init reported, so that each decision and each error is the step's.

The expected outcomes are those that the last container reported. The operations of a step, and the whole packet of a
plan, are kept (`expectations`), with blanks in place of what differs from container to container: its name and its
directories (`blanks`). Each container has the blanks filled in.

`nbcontainer.sandbox.launcher.connection` starts the server when the program is there (`program`, `building`).
"""
