"""Pages of HOW MUCH: credit, payments, plan, history; and what every page says of the money."""

from billing.pages.header import credit

__all__ = ["credit"]
