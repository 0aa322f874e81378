"""What every process of ours loads first: the Celery application and the system checks."""

from django.apps import AppConfig


class AggregatorConfig(AppConfig):
    name = "aggregator"

    def ready(self) -> None:
        # Every process of ours enqueues by name, so every one needs the application that knows the broker.
        from aggregator import celery, checks  # noqa: F401
