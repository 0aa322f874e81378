"""The embedded default: the whole product on one bare machine, with real PostgreSQL and Valkey."""
