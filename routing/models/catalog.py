"""The catalog as rows: what an operator sees in the admin and what every gateway loads.

Files under `routing/catalog/` fill these tables; the tables are what runs. A field that an operator has
changed is *held*: `sync_catalog` leaves it alone until the operator hands it back.
"""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models

from routing.core.listing import CLASSES, DATA_POLICIES, PARAMETERS, QUANTIZATIONS

_PROVIDER_SLUG = RegexValidator(r"\A[a-z0-9][a-z0-9-]*\Z", "Lower-case letters, digits and hyphens.")
_MODEL_SLUG = RegexValidator(r"\A[a-z0-9][a-z0-9._-]*/[a-z0-9][a-z0-9._-]*\Z", "The form is author/slug.")
_ENV_PREFIX = RegexValidator(r"\A[A-Z][A-Z0-9_]*\Z", "Upper-case letters, digits and underscores.")
_POLICIES = [(name, name) for name in DATA_POLICIES]


class Catalogued(models.Model):
    """A row that the catalog files and the operators share."""

    enabled = models.BooleanField(
        default=True, help_text="Operators alone decide this; a file never changes it."
    )
    retired = models.BooleanField(
        default=False,
        editable=False,
        help_text="No catalog file names this row any more, so it is not served.",
    )
    from_catalog = models.BooleanField(default=False, editable=False)
    held = ArrayField(
        models.CharField(max_length=40),
        default=list,
        blank=True,
        help_text="Fields that an operator has changed: a sync leaves them alone. Clear to hand them back.",
    )
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        abstract = True


class Provider(Catalogued):
    """Who hosts. Its key and base URL may also come from the environment: see `env_prefix`."""

    slug = models.CharField(max_length=40, unique=True, validators=[_PROVIDER_SLUG])
    name = models.CharField(max_length=80)
    dialect = models.CharField(max_length=20, default="openai")
    base_url = models.CharField(max_length=200, blank=True)
    env_prefix = models.CharField(
        max_length=40,
        blank=True,
        validators=[_ENV_PREFIX],
        help_text="<PREFIX>_API_KEY turns the provider on, <PREFIX>_BASE_URL overrides the base URL.",
    )
    sandbox = models.BooleanField(
        default=False, help_text="Simulated: served by the sandbox, only in the embedded default."
    )
    keyless = models.BooleanField(
        default=False, help_text="A server of your own: <PREFIX>_BASE_URL alone turns it on, without a key."
    )
    quirks = ArrayField(models.CharField(max_length=40), default=list, blank=True)
    region = models.CharField(max_length=40, blank=True)
    data_policy = models.CharField(max_length=40, blank=True, choices=_POLICIES)

    class Meta:
        ordering = ("slug",)

    def __str__(self) -> str:
        return self.slug


class ManagedKey(models.Model):
    """One of several keys of ours at a provider, with what the provider allows it. The secret is not here."""

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="keys")
    name = models.CharField(max_length=40)
    environment = models.CharField(
        max_length=80,
        validators=[_ENV_PREFIX],
        help_text="The environment variable that holds the secret, such as OPENAI_API_KEY_2.",
    )
    requests_per_minute = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text="Empty: no limit of ours."
    )
    concurrent = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text="Calls at once. Empty: no limit."
    )
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ("provider", "name")
        constraints = [
            models.UniqueConstraint(fields=("provider", "name"), name="a_managed_key_has_a_name_of_its_own"),
            models.UniqueConstraint(fields=("provider", "environment"), name="a_secret_is_one_managed_key"),
        ]

    def __str__(self) -> str:
        return f"{self.provider.slug}: {self.name}"

    def clean(self) -> None:
        if self.provider_id and not self.is_of(self.provider):
            raise ValidationError(
                {"environment": f"The variable's name must begin with {self.provider.env_prefix}_API_KEY."}
            )

    def is_of(self, provider: Provider) -> bool:
        """No other secret of the process can be sent to a provider by naming its variable here."""
        prefix = provider.env_prefix
        return bool(prefix) and self.environment.startswith(f"{prefix}_API_KEY")


class Model(Catalogued):
    """What it is, whoever hosts it."""

    slug = models.CharField(max_length=100, unique=True, validators=[_MODEL_SLUG])
    name = models.CharField(max_length=100)
    description = models.TextField(blank=True)
    context_length = models.PositiveIntegerField(validators=[MinValueValidator(1)])
    max_output = models.PositiveIntegerField(validators=[MinValueValidator(1)])
    model_class = models.CharField(max_length=10, choices=[(name, name) for name in CLASSES])
    auto = models.BooleanField(default=False, help_text='Member of the pool behind `model: "auto"`.')
    listed = models.BooleanField(
        default=True, help_text="Shown in the lists of models; without it, it can still be called by name."
    )
    capabilities = ArrayField(models.CharField(max_length=20), default=list, blank=True)
    released = models.DateField()

    class Meta:
        ordering = ("slug",)

    def __str__(self) -> str:
        return self.slug


class Endpoint(Catalogued):
    """This model at this provider: what is called, priced and measured."""

    slug = models.CharField(max_length=150, unique=True, editable=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="endpoints")
    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="endpoints")
    upstream_name = models.CharField(max_length=100, help_text="What the provider calls the model.")
    max_context = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="The provider's own context, where it is below the model's.",
    )
    max_output = models.PositiveIntegerField(validators=[MinValueValidator(1)])
    quantization = models.CharField(
        max_length=10, default="unknown", choices=[(name, name) for name in QUANTIZATIONS]
    )
    parameters = ArrayField(
        models.CharField(max_length=40, choices=[(name, name) for name in PARAMETERS]),
        null=True,
        blank=True,
        help_text="Fields of a request that it honours; empty when that is not known.",
    )
    data_policy = models.CharField(
        max_length=40, blank=True, choices=_POLICIES, help_text="Where it differs from the provider's."
    )
    ttft_ms = models.PositiveIntegerField(
        help_text="Time to first token: the prediction until traffic has been seen."
    )
    tokens_per_second = models.PositiveIntegerField(validators=[MinValueValidator(1)])

    class Meta:
        ordering = ("slug",)
        constraints = [
            models.UniqueConstraint(
                fields=("provider", "model"), name="one_endpoint_for_a_model_at_a_provider"
            ),
            models.CheckConstraint(
                condition=models.Q(tokens_per_second__gt=0), name="an_endpoint_makes_progress"
            ),
        ]

    def __str__(self) -> str:
        return self.slug

    def clean(self) -> None:
        self.parameters = (
            self.parameters or None
        )  # a form knows no difference; nothing honoured is no endpoint
        if self.model_id and self.max_context and self.max_context > self.model.context_length:
            raise ValidationError({"max_context": "It is above the model's own."})
        if self.provider_id and self.model_id and len(self.named()) > 150:
            raise ValidationError("The provider's and the model's slug are too long together.")

    def named(self) -> str:
        return f"{self.provider.slug}:{self.model.slug}"

    def save(self, *args: object, **kwargs: object) -> None:
        self.slug = self.named()
        super().save(*args, **kwargs)  # type: ignore[arg-type]


class CatalogVersion(models.Model):
    """One row that counts the changes, so that gateways know when to load again."""

    number = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="there_is_one_catalog_version")]

    def __str__(self) -> str:
        return str(self.number)


class Window(models.Model):
    """Five minutes of one endpoint, as all gateways together saw it. By slug: it outlives its endpoint."""

    endpoint = models.CharField(max_length=150)
    start = models.DateTimeField()
    worked = models.PositiveIntegerField(default=0)
    failures = models.PositiveIntegerField(default=0)
    rate_limited = models.PositiveIntegerField(default=0)
    probes = models.PositiveIntegerField(default=0)
    probe_failures = models.PositiveIntegerField(default=0)
    fold = models.JSONField(help_text="All that was seen, as `routing.core.folds.Fold` has it.")

    class Meta:
        ordering = ("-start", "endpoint")
        constraints = [
            models.UniqueConstraint(fields=("start", "endpoint"), name="one_window_of_an_endpoint_at_a_time")
        ]

    def __str__(self) -> str:
        return f"{self.endpoint} {self.start:%Y-%m-%d %H:%M}"


class RollUp(models.Model):
    """What the windows of one endpoint in a longer stretch come to, summed anew when one is added."""

    endpoint = models.CharField(max_length=150)
    start = models.DateTimeField()
    windows = models.PositiveIntegerField()
    """How many it sums, so that it is known whether one is missing."""
    worked = models.PositiveIntegerField(default=0)
    failures = models.PositiveIntegerField(default=0)
    rate_limited = models.PositiveIntegerField(default=0)
    probes = models.PositiveIntegerField(default=0)
    probe_failures = models.PositiveIntegerField(default=0)
    up = models.PositiveIntegerField(default=0)
    """Attempts that worked; of probes in windows without traffic."""
    down = models.PositiveIntegerField(default=0)
    minutes_seen = models.PositiveIntegerField(default=0)
    """Of windows in which anybody tried it."""
    minutes_down = models.PositiveIntegerField(default=0)
    """Of those in which at least half of what was tried failed."""
    fold = models.JSONField(help_text="All that was seen, as `routing.core.folds.Fold` has it.")

    class Meta:
        abstract = True
        ordering = ("-start", "endpoint")

    def __str__(self) -> str:
        return f"{self.endpoint} {self.start:%Y-%m-%d %H:%M}"


class EndpointHour(RollUp):
    """An hour, kept as long as the windows are."""

    class Meta(RollUp.Meta):
        constraints = [
            models.UniqueConstraint(fields=("start", "endpoint"), name="one_hour_of_an_endpoint_at_a_time")
        ]


class EndpointDay(RollUp):
    """A day, UTC, kept for longer than its windows."""

    class Meta(RollUp.Meta):
        constraints = [
            models.UniqueConstraint(fields=("start", "endpoint"), name="one_day_of_an_endpoint_at_a_time")
        ]


class ProbeDay(models.Model):
    """What probing one endpoint came to in a day, UTC. The cost is ours, as its price says: not a booking."""

    day = models.DateField()
    endpoint = models.CharField(max_length=150)
    probes = models.PositiveIntegerField(default=0)
    failures = models.PositiveIntegerField(default=0)
    nanos = models.BigIntegerField(default=0)

    class Meta:
        ordering = ("-day", "endpoint")
        constraints = [
            models.UniqueConstraint(fields=("day", "endpoint"), name="one_sum_of_probes_of_an_endpoint_a_day")
        ]

    def __str__(self) -> str:
        return f"{self.endpoint} {self.day}"


class PriceSource(models.Model):
    """A place that prices are compared with, and how well it answers."""

    name = models.CharField(max_length=40, primary_key=True)
    """`genai-prices`, or the slug of a provider that publishes prices."""
    version = models.CharField(max_length=60, blank=True)
    """Of the price list: the release that was compared last."""
    tried_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    """When it was last read; at first, when it was first tried."""
    problem = models.TextField(blank=True)
    """Why it cannot be read now."""
    silence_told_at = models.DateTimeField(null=True)
    """When operators heard of a silence that still lasts."""

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class PriceProposal(models.Model):
    """A price that a source states and that is not the one in force: what it was, and what became of it."""

    WAITING, APPROVED, REFUSED = "waiting", "approved", "refused"
    APPLIED, WITHDRAWN, NOTED = "applied", "withdrawn", "noted"
    STATES = {
        WAITING: "Waiting",
        APPROVED: "Approved",
        REFUSED: "Refused",
        APPLIED: "Applied by itself",
        WITHDRAWN: "Withdrawn",
        NOTED: "Noted",
    }
    """`noted`: a second source disagrees with a price that its first source confirms."""

    endpoint = models.CharField(max_length=150)
    source = models.CharField(max_length=60)
    state = models.CharField(max_length=10, choices=list(STATES.items()))
    price_id = models.BigIntegerField(help_text="The price row in force when this was proposed.")
    now = models.JSONField()
    proposed = models.JSONField()
    """Both as `billing.core.pricing.parse_price` reads them."""
    differences = models.JSONField()
    """`[[kind, now, proposed, percent or null], …]`, exact decimals as text."""
    percent = models.DecimalField(max_digits=30, decimal_places=2, null=True)
    """The largest difference; null when no percentage measures it."""
    reason = models.TextField(blank=True)
    """Why it waits, or why it was decided so."""
    decided_by = models.CharField(max_length=300, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()
    told_at = models.DateTimeField(null=True, blank=True)
    """When operators were written to."""

    class Meta:
        ordering = ("-id",)
        constraints = [
            models.UniqueConstraint(
                fields=("endpoint",),
                condition=models.Q(state="waiting"),
                name="one_price_waits_for_an_endpoint",
            ),
        ]
        indexes = [models.Index(fields=("endpoint", "-id"), name="price_proposals_endpoint")]

    def __str__(self) -> str:
        return f"{self.endpoint}, {self.source}"
