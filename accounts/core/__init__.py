"""Computes: who may do what, what a key's text says. Knows no database, network or framework."""
