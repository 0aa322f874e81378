"""Pages of WHO: keys, the organization, the person."""
