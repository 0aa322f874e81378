"""A simulated Stripe over real HTTP: its API, its hosted pages, its webhooks, and a clock that can be moved.

What stands in for Stripe in the embedded default and in tests. It shares no code with the product that it is
used to check: nothing here imports `aggregator`, `accounts`, `routing` or the rest of `billing`.
"""
