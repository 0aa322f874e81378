"""WHO: organizations, members, roles, keys."""
