"""What a cache saved, of prompts in which there are images or audio: they lengthen it, and keep their price."""

from __future__ import annotations

from django.db import migrations

# As `billing.core.pricing` says it: the same call with every cached token at the full price of text, less what it
# came to.
_FUNCTION = """
CREATE OR REPLACE FUNCTION cache_saved_nanos(asked_id bigint, charged_window integer, markup numeric,
                                             parts jsonb)
RETURNS bigint LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE AS $$
DECLARE
    said jsonb;
    part jsonb;
    tier jsonb;
    rate numeric;
    base numeric := 0;
    cached numeric := 0;
    cached_units bigint := 0;
    prompt bigint := 0;
BEGIN
    FOR part IN SELECT * FROM jsonb_array_elements(parts) LOOP
        base := base + (part ->> 2)::numeric;
        IF part ->> 0 IN ('cache_read', 'cache_write_5m', 'cache_write_1h') THEN
            cached := cached + (part ->> 2)::numeric;
            cached_units := cached_units + (part ->> 1)::bigint;
        END IF;
        IF part ->> 0 IN ({prompt}) THEN
            prompt := prompt + (part ->> 1)::bigint;
        END IF;
    END LOOP;
    SELECT price.stated INTO said FROM billing_price AS price WHERE price.id = asked_id;
    IF cached_units = 0 OR said IS NULL THEN
        RETURN 0;
    END IF;
    IF charged_window > 0 THEN
        said := (said - 'tiers' - 'windows') || (said -> 'windows' -> (charged_window - 1));
    END IF;
    rate := (said ->> 'input')::numeric;
    FOR tier IN SELECT one FROM jsonb_array_elements(coalesce(said -> 'tiers', '[]')) AS one
                WHERE (one ->> 'above')::bigint < prompt ORDER BY (one ->> 'above')::bigint LOOP
        rate := (coalesce(tier ->> 'input', said ->> 'input'))::numeric;
    END LOOP;
    RETURN half_even((base - cached + cached_units * rate * 1000) * (1 + markup))
           - half_even(base * (1 + markup));
END
$$;
"""
_BEFORE = "'input', 'cache_read', 'cache_write_5m', 'cache_write_1h'"


class Migration(migrations.Migration):
    dependencies = [("billing", "0019_billing_profiles")]

    operations = [
        migrations.RunSQL(
            _FUNCTION.replace("{prompt}", f"{_BEFORE}, 'image', 'audio'"),
            _FUNCTION.replace("{prompt}", _BEFORE),
        ),
    ]
