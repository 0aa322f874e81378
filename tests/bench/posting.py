"""How fast delivered calls are posted, and that the poster's memory does not grow with them.

    python -m tests.bench.posting [--generations 1000000] [--organizations 200]

Starts a PostgreSQL and a Valkey of its own, makes the generations by SQL, and posts them as the job does.
That PostgreSQL does not wait for its disk.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from pathlib import Path

from tests import servers

_MAKE = """
INSERT INTO generations (id, organization_id, key_id, spool, status, model, endpoint, input, price_id,
                         markup, parts, base_nanos, charge_nanos, loss_nanos)
SELECT (left(uuid7_from(now() - number * interval '3 milliseconds')::text, 14) || '7'
        || right(gen_random_uuid()::text, 21))::uuid,
       owner[1], owner[2], gen_random_uuid(), 'completed', 'acme/swift', 'sandbox:acme/swift', 1000,
       %(price)s, 0.03, %(parts)s::jsonb, 2000000 - lost, 2060000 - lost, lost
FROM generate_series(%(first)s, %(last)s) AS number,
     LATERAL (SELECT ARRAY[(%(organizations)s::bigint[])[place], (%(keys)s::bigint[])[place]] AS owner,
                     CASE WHEN number %% 50 = 0 THEN 7 ELSE 0 END AS lost
              FROM (SELECT 1 + (number::bigint * 7919) %% %(count)s AS place) AS placed) AS made
"""
_CHUNK = 50_000


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--generations", type=int, default=1_000_000)
    options.add_argument("--organizations", type=int, default=200)
    asked = options.parse_args()
    servers.provide()
    try:
        _run(asked.generations, asked.organizations)
    finally:
        servers.stop()


def _run(generations: int, organizations: int) -> None:
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connection

    from billing import posting
    from tests.billing import books

    call_command("migrate", verbosity=0)
    keys = [
        books.make_key(books.make_organization(f"org-{number}", usd="20000"))
        for number in range(organizations)
    ]
    price = books.make_price()
    made = 0
    with connection.cursor() as cursor:
        while made < generations:
            last = min(made + _CHUNK, generations)
            cursor.execute(
                _MAKE,
                {
                    "first": made + 1,
                    "last": last,
                    "price": price.id,
                    "parts": '[["input", 1000, "0.002"]]',
                    "organizations": [key.organization_id for key in keys],
                    "keys": [key.pk for key in keys],
                    "count": organizations,
                },
            )
            made = last
        cursor.execute("ANALYZE generations")
    posting.post_generations(limit=20_000)
    before, done, busy, most = _rss(), 0, 0.0, 0
    while True:  # as the job does: a while at a time, so that memory can be looked at
        began = time.perf_counter()
        posted = posting.post_generations(limit=50_000)
        busy += time.perf_counter() - began
        done += posted
        most = max(most, _rss())
        if not posted:
            break
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM billing_posting WHERE kind = 'usage'")
        (postings,) = cursor.fetchone()
        cursor.execute("SELECT count(*) FROM generations WHERE posting_id IS NULL")
        (left,) = cursor.fetchone()
    load, cores = os.getloadavg()[0], os.cpu_count()
    print(f"Python {platform.python_version()}, {cores} cores, load {load:.1f}")
    print(
        f"{done:,} generations of {organizations} organizations in {busy:.1f} s: {done / busy:,.0f} a second"
    )
    print(f"{postings:,} postings in all, {left} generations left")
    print(f"RSS of the poster: {before:,} KiB after the first 20,000, then at most {most:,} KiB")


def _rss() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


if __name__ == "__main__":
    main()
