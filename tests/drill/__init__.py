"""The fault drill: a run is killed, damaged and starved of disk in many ways, and each outcome is counted.

``python -m tests.drill`` prints the table of outcomes that stands in ``docs/reliability.md``; ``kills``, ``files`` or
``disk`` behind it runs that part only.
"""
