"""HOW MUCH: plans, prices, the gate, the spool, the ledger."""
