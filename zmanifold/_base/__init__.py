"""Foundations of all wings: errors, checks of the user's arguments, memory, threads and kernels.

Nothing here imports data sets, mixers or estimators. Open `errors` and `checks` first: they turn an
argument into a checked value, or raise one sentence that names the value, the rule and the remedy.
`arrays` and `labels` do the same for data.
"""
