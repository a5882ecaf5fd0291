"""A pilot: from a file and the names of two models to whether distilling is worth it, within minutes.

```text
setup.py     DATA, teacher, student, overrides -> the mapping of a recipe; the method that suits the pair
probe.py     seconds of a step and of an answer, measured on this machine
plan.py      rows, passes, test rows and seeds that fit into the time
verdict.py   worth it, not worth it, cannot tell: from paired tests alone
results.py   the grid's answers -> tests, curve, advice
full_run.py  time of the full run, from the measured stages
work.py      the whole, resumable
```
"""
