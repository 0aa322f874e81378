"""WHERE: models, endpoints, the selector, the data plane."""
