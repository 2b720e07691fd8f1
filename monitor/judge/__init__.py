"""Says, run by run, whether an update made the shop worse. Pure: no input or output, time comes with the runs.

The way of one update: `baseline.freeze` fixes what "before" means for each target, `verdict.Case` is fed every later
run in the order of time, `Case.ruling` answers at any moment. The same baselines and runs give the same ruling, live or
replayed.
"""
