"""Tags and filters of money."""
