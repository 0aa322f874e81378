"""Computes: what a call says, which endpoints may serve it and which will. Asks nobody, waits for nothing."""
