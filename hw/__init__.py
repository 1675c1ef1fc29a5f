"""The machine: its configuration, instruction set, programs, timing, events, energy and area.

Nothing here imports any other part of `codesign`.
"""
