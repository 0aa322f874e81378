"""Simulated providers over real HTTP: their own prices, paces, faults and bill.

What stands in for third parties in the embedded default. It shares no code with the product that it is used
to check: nothing here imports `billing`, `accounts` or the rest of `routing`.
"""
