"""What every wing needs: errors, checks of the user's arguments, memory, threads and kernels.

Nothing here knows of data sets, mixers or dimensions. Open `errors` and `checks` first: whatever a
user gives becomes a checked value there, or one sentence that names the value, the rule and the
remedy; `arrays` and `labels` do the same for data.
"""
