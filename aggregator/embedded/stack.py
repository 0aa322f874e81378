"""Which services make up the product here, in which order, and the environment they share."""

from __future__ import annotations

import hashlib
import http.client
import os
import signal
import sys
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path

import psycopg

from aggregator.embedded import environment as kept_environment
from aggregator.embedded import ports, prepared
from aggregator.embedded.postgres import Postgres
from aggregator.embedded.processes import Service, Supervisor
from aggregator.embedded.report import Failure, step
from aggregator.embedded.state import Secrets, State
from aggregator.embedded.valkey import Valkey
from aggregator.lib import env

PROJECT = Path(__file__).resolve().parents[2]
PARTS = ("postgres", "valkey", "sandbox", "stripe", "gateway", "worker")


class Stack:
    def __init__(self, state: State, parts: tuple[str, ...] = PARTS) -> None:
        self.state = state
        self.parts = parts
        self.supervisor = Supervisor(PROJECT, state.log_dir)
        self.port = ports.setting("PORT", 8000)
        self.postgres_port = ports.setting("POSTGRES_PORT", 15432)
        self.valkey_port = ports.setting("VALKEY_PORT", 16379)
        self.sandbox_port = ports.setting("SANDBOX_PORT", 18080)
        self.stripe_port = ports.setting("STRIPE_SANDBOX_PORT", 18081)
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.sandbox_url = f"http://127.0.0.1:{self.sandbox_port}"
        self.stripe_url = (
            "" if env.secret("STRIPE_SECRET_KEY", "") else f"http://127.0.0.1:{self.stripe_port}"
        )
        self.database_url = env.secret("DATABASE_URL", "")
        self.redis_url = env.secret("REDIS_URL", "")
        self._own: list[str] = [
            part
            for part in parts
            if not (part == "postgres" and self.database_url)
            and not (part == "valkey" and self.redis_url)
            and not (part == "stripe" and not self.stripe_url)
        ]

    def start(self, secrets: Secrets) -> None:
        """Everything, stage by stage: databases and sandbox, what they hold, then what serves."""
        self._require_ports()
        self._start_databases(secrets)
        environment = self.environment(secrets)
        kept_environment.keep(self.state.directory, environment)
        self.distrust_without_stripe()
        simulated = [
            (f"{name} on port {port}", make(environment))
            for part, name, port, make in (
                ("sandbox", "sandbox", self.sandbox_port, self._sandbox),
                ("stripe", "Stripe sandbox", self.stripe_port, self._stripe),
            )
            if part in self._own
        ]
        if simulated:
            with step(", ".join(told for told, _ in simulated)):
                self.supervisor.start(*(service for _, service in simulated))
        if "gateway" in self._own:
            self._prepare(environment)
        serving = [
            make(environment)
            for part, make in (("gateway", self._gateway), ("worker", self._worker))
            if part in self._own
        ]
        if serving:
            with step(f"gateway on port {self.port}, worker with its schedule"):
                self.supervisor.start(*serving)

    def environment(self, secrets: Secrets) -> dict[str, str]:
        """What every process of ours is given; what a person has set stays as it is."""
        stated = dict(os.environ)
        made = {
            "SECRET_KEY": secrets.secret_key,
            "KEY_PEPPER": secrets.key_pepper,
            "LOG_MASTER_KEYS": secrets.log_master_key,
            "PUBLIC_URL": self.base_url,
        }
        for name in ("SECRET_KEY", "KEY_PEPPER", "LOG_MASTER_KEYS"):
            if stated.get(f"{name}_FILE", "").strip():
                del made[name]
        fixed = {
            "EMBEDDED": "1",
            "DJANGO_SETTINGS_MODULE": "aggregator.settings",
            "VAR_DIR": str(self.state.directory),
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "SANDBOX_BASE_URL": self.sandbox_url,
            "PORT": str(self.port),
            "SANDBOX_PORT": str(self.sandbox_port),
            "STRIPE_SANDBOX_PORT": str(self.stripe_port),
            **self._simulated_stripe(secrets),
            "PYTHONUNBUFFERED": "1",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        }
        kept = {name: value for name, value in stated.items() if value.strip() or name not in made}
        return {**made, **kept, **fixed}

    def _simulated_stripe(self, secrets: Secrets) -> dict[str, str]:
        """How our processes reach the simulated Stripe and trust it; nothing when the real one is used."""
        if not self.stripe_url:
            return {}
        made = hashlib.sha256(f"Stripe {secrets.secret_key}".encode()).hexdigest()
        return {
            "STRIPE_SECRET_KEY": f"sk_test_sandbox{made[:24]}",
            "STRIPE_WEBHOOK_SECRETS": f"whsec_{made[24:]}",
            "STRIPE_WEBHOOK_URL": f"{self.base_url}/hooks/stripe",
            "STRIPE_API_BASE": self.stripe_url,
        }

    def facts(self) -> dict[str, str]:
        """What other programs read in dev.json."""
        demo = self.state.demo() if "gateway" in self._own else {}
        return {
            "base_url": self.base_url,
            "api_base": f"{self.base_url}/api/v1",
            "api_key": demo.get("api_key", ""),
            "management_key": demo.get("management_key", ""),
            "email": demo.get("email", ""),
            "password": demo.get("password", ""),
            "sandbox_url": self.sandbox_url,
            "stripe_url": self.stripe_url,
        }

    def distrust(self) -> None:
        """What was prepared did not work: make it whole again at the next start."""
        prepared.forget(self.state.directory)

    def distrust_without_stripe(self) -> None:
        """A simulated Stripe that begins anew has no prices yet: they are made with the rest."""
        if "stripe" in self._own and not (self.state.directory / "stripe.sqlite3").exists():
            self.distrust()

    def stop(self) -> None:
        self.supervisor.stop()

    def _require_ports(self) -> None:
        wanted = {
            "gateway": (self.port, "PORT"),
            "postgres": (self.postgres_port, "POSTGRES_PORT"),
            "valkey": (self.valkey_port, "VALKEY_PORT"),
            "sandbox": (self.sandbox_port, "SANDBOX_PORT"),
            "stripe": (self.stripe_port, "STRIPE_SANDBOX_PORT"),
        }
        seen: dict[int, str] = {}
        for part in self._own:
            if part in wanted:
                port, name = wanted[part]
                if port in seen:
                    raise Failure(
                        f"{name} and {seen[port]} are both {port}: each service needs a port of its own"
                    )
                seen[port] = name
                ports.require_free(port, name, part)

    def _start_databases(self, secrets: Secrets) -> None:
        services = []
        if "postgres" in self._own:
            server = Postgres(
                self.state.postgres_dir, port=self.postgres_port, password=secrets.postgres_password
            )
            self.database_url = server.url
            fresh = not self.state.postgres_dir.exists()
            with step(f"PostgreSQL on port {self.postgres_port}{' (first start)' if fresh else ''}"):
                server.prepare()
                self.supervisor.start(server.service())
        elif self.database_url:
            _require_database(self.database_url)
        if "valkey" in self._own:
            cache = Valkey(self.state.valkey_dir, port=self.valkey_port, password=secrets.valkey_password)
            self.redis_url = cache.url
            services.append(cache.service())
            with step(f"Valkey on port {self.valkey_port}"):
                self.supervisor.start(*services)

    def _prepare(self, environment: Mapping[str, str]) -> None:
        """Schema, catalog and demo; a database that is not ours may have changed since the last start."""
        var_dir = self.state.directory
        if "postgres" in self._own and prepared.is_current(var_dir):
            return
        prepared.forget(var_dir)
        command = [sys.executable, "-m", "aggregator.embedded.prepare"]
        with step("schema, catalog and demo organization"):
            self.supervisor.run("prepare", command, environment, seconds=180)
        prepared.remember(var_dir)

    def _sandbox(self, environment: Mapping[str, str]) -> Service:
        return Service(
            "sandbox",
            [sys.executable, "-m", "routing.sandbox"],
            environment,
            _answers(self.sandbox_port, "/_sandbox/health"),
            stop_seconds=3,
        )

    def _stripe(self, environment: Mapping[str, str]) -> Service:
        return Service(
            "stripe",
            [sys.executable, "-m", "billing.sandbox"],
            environment,
            _answers(self.stripe_port, "/_sandbox/health"),
            stop_seconds=3,
        )

    def _gateway(self, environment: Mapping[str, str]) -> Service:
        return Service(
            "gateway",
            [
                sys.executable,
                "-m",
                "gunicorn",
                "-c",
                "deploy/gunicorn.conf.py",
                "aggregator.asgi:application",
            ],
            environment,
            _answers(self.port, "/health/ready"),
            stop_signal=signal.SIGINT,  # a person waits: streams are told at once, not waited for
            stop_seconds=20,
        )

    def _worker(self, environment: Mapping[str, str]) -> Service:
        schedule = str(self.state.directory / "celery-schedule")
        command = (  # the gateway checks the same settings, and would end the start
            "celery -A aggregator.celery --skip-checks worker --beat -P threads -c 4"
            " --without-mingle --without-gossip"
        )
        return Service(
            "worker",
            [sys.executable, "-m", *command.split(), "-s", schedule],
            environment,
            lambda: True,
            stop_seconds=15,
        )


def _answers(port: int, path: str) -> Callable[[], bool]:
    """Whether a service of ours says that it is well."""

    def ask() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return ask


def _require_database(url: str) -> None:
    where = urllib.parse.urlsplit(url)
    try:
        with psycopg.connect(url, connect_timeout=5):
            pass
    except psycopg.Error as error:
        raise Failure(f"DATABASE_URL ({where.hostname}:{where.port or 5432}{where.path}): {error}") from error
