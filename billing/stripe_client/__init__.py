"""The one door to Stripe. Every reading function answers frozen values, every writing one takes a key.

A write is made only after the row that it belongs to was committed; its idempotency key comes from that row.
"""
