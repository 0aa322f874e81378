"""A dialect is one wire format: one file that reads and writes it, without I/O. Dialects know no one another."""
