"""`make month`: a month of a small shop in compressed time, driven through the real daemon.

Belongs here: the shop, its clock, its process tree, what happens on which day and what must come of
it. Does not belong here: what a run computes; loops of kills and failures (`tests/faults`).
"""
