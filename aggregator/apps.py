from django.apps import AppConfig


class AggregatorConfig(AppConfig):
    name = "aggregator"

    def ready(self) -> None:
        from aggregator import checks  # noqa: F401  (registers them)
