"""The catalog as rows: what an operator sees in the admin and what every gateway loads.

Files under `routing/catalog/` fill these tables; the tables are what runs. A field that an operator has
changed is *held*: `sync_catalog` leaves it alone until the operator hands it back.
"""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models

from routing.listing import CLASSES

_PROVIDER_SLUG = RegexValidator(r"\A[a-z0-9][a-z0-9-]*\Z", "Lower-case letters, digits and hyphens.")
_MODEL_SLUG = RegexValidator(r"\A[a-z0-9][a-z0-9._-]*/[a-z0-9][a-z0-9._-]*\Z", "The form is author/slug.")
_ENV_PREFIX = RegexValidator(r"\A[A-Z][A-Z0-9_]*\Z", "Upper-case letters, digits and underscores.")


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
    quirks = ArrayField(models.CharField(max_length=40), default=list, blank=True)
    region = models.CharField(max_length=40, blank=True)
    data_policy = models.CharField(max_length=40, blank=True)

    class Meta:
        ordering = ("slug",)

    def __str__(self) -> str:
        return self.slug


class Model(Catalogued):
    """What it is, whoever hosts it."""

    slug = models.CharField(max_length=100, unique=True, validators=[_MODEL_SLUG])
    name = models.CharField(max_length=100)
    description = models.TextField(blank=True)
    context_length = models.PositiveIntegerField(validators=[MinValueValidator(1)])
    max_output = models.PositiveIntegerField(validators=[MinValueValidator(1)])
    model_class = models.CharField(max_length=10, choices=[(name, name) for name in CLASSES])
    auto = models.BooleanField(default=False, help_text='Member of the pool behind `model: "auto"`.')
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
    max_output = models.PositiveIntegerField(validators=[MinValueValidator(1)])
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
