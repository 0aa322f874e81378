"""Pages of WHERE: calls, one call, the models there are."""
