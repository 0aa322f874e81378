"""Computes: money, usage, prices, budgets' windows, and the texts of scripts and checks. Asks nobody."""
