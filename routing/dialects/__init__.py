"""A dialect is one wire format, read and written without I/O. Dialects know nothing of one another."""
