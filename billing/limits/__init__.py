"""Hard limits of organizations, members and end users: set by people, kept by the gate."""

from billing.limits.setting import applying, change, delete, find, live, set_budget
from billing.limits.standing import Standing, of_budgets

__all__ = ["Standing", "applying", "change", "delete", "find", "live", "of_budgets", "set_budget"]
