"""Every setting, each from the environment, documented in deploy/env.example. One file, no twins.

Contradictions between settings are caught by aggregator/checks.py before anything starts.
"""

from __future__ import annotations

from pathlib import Path

import environ

from aggregator.lib import env

BASE_DIR = Path(__file__).resolve().parent.parent

# ── What runs ────────────────────────────────────────────────────────────────────────────────────
EMBEDDED = env.flag("EMBEDDED")
ROLE = env.choice("ROLE", ("all", "gateway", "web"), "all")
DEBUG = env.flag("DEBUG")
VAR_DIR = Path(env.text("VAR_DIR", str(BASE_DIR / "var")))
CRASH_DIR = env.text("CRASH_DIR", "")
PUBLIC_URL = env.text("PUBLIC_URL", "http://127.0.0.1:8000").rstrip("/")

# ── Secrets: a different one for each purpose ────────────────────────────────────────────────────
SECRET_KEY = env.secret("SECRET_KEY")
KEY_PEPPER = env.secret("KEY_PEPPER")
LOG_MASTER_KEYS = [each.strip() for each in env.secret("LOG_MASTER_KEYS", "").split(",") if each.strip()]
WEBHOOK_KEYS = [
    each.strip()
    for each in env.secret("WEBHOOK_KEYS", SECRET_KEY if EMBEDDED else "").split(",")
    if each.strip()
]

# ── Hosts and cookies ────────────────────────────────────────────────────────────────────────────
ALLOWED_HOSTS = env.names("ALLOWED_HOSTS", ["127.0.0.1", "localhost"])
SECURE_COOKIES = env.flag("SECURE_COOKIES", PUBLIC_URL.startswith("https://"))
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_COOKIES
SESSION_COOKIE_NAME = "__Host-session" if SECURE_COOKIES else "session"
CSRF_COOKIE_NAME = "__Host-csrf" if SECURE_COOKIES else "csrf"
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 60 * 60 * 24 * 14
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SECURE_HSTS_SECONDS = 60 * 60 * 24 * 365 if SECURE_COOKIES else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_COOKIES
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if env.flag("BEHIND_PROXY") else None
ALLAUTH_TRUSTED_PROXY_COUNT = int(env.flag("BEHIND_PROXY"))
X_FRAME_OPTIONS = "DENY"

# ── Apps ─────────────────────────────────────────────────────────────────────────────────────────
INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "csp",
    "django_htmx",
    "pgtrigger",
    "rest_framework",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "aggregator",
    "accounts",
    "billing",
    "routing",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "aggregator.packed.StaticFiles",
    "django.middleware.gzip.GZipMiddleware",
    "csp.middleware.CSPMiddleware",
    "aggregator.policy.no_store",
    "aggregator.policy.no_null",
    "aggregator.policy.admin_policy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "accounts.seen.note",
    "django_htmx.middleware.HtmxMiddleware",
]
ROOT_URLCONF = "aggregator.urls"
ASGI_APPLICATION = "aggregator.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "accounts.access.current",
                "billing.pages.credit",
            ],
        },
    }
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
USE_I18N = False

# ── PostgreSQL ───────────────────────────────────────────────────────────────────────────────────
DATABASE_URL = env.secret("DATABASE_URL")
DATABASES = {"default": environ.Env.db_url_config(DATABASE_URL)}
DATABASES["default"]["OPTIONS"] = {
    "pool": {"min_size": 1, "max_size": env.whole("DATABASE_POOL", 8, least=2), "timeout": 5},
    # A partition is noticed within some 15 seconds, not when the kernel gives up after as many minutes.
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 15_000,
    # A year of usage is summed in memory; the usual 4 MB would spill it to disk.
    "options": "-c statement_timeout=30s -c lock_timeout=5s -c idle_in_transaction_session_timeout=30s"
    " -c work_mem=16MB",
}

# A restarted server leaves dead connections in the pool: none of them is handed out.
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True

# ── Redis or Valkey: the gate apart from caches and broker ───────────────────────────────────────
REDIS_URL = env.secret("REDIS_URL")
GATE_URL = env.secret("GATE_URL", f"{REDIS_URL.rstrip('/')}/0")
CACHE_URL = env.secret("CACHE_URL", f"{REDIS_URL.rstrip('/')}/1")
CELERY_BROKER_URL = env.secret("CELERY_BROKER_URL", f"{REDIS_URL.rstrip('/')}/2")
CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": CACHE_URL}}

# ── The gate and the spool ───────────────────────────────────────────────────────────────────────
GATE_SHARDS = env.whole("GATE_SHARDS", 1, least=1)
GATE_TIMEOUT_MS = env.whole("GATE_TIMEOUT_MS", 1000 if EMBEDDED else 50, least=5)
GATE_GRACE_SECONDS = env.whole("GATE_GRACE_SECONDS", 30, least=1)
HOLD_LEASE_SECONDS = env.whole("HOLD_LEASE_SECONDS", 60, least=3)
SPOOL_DIR = Path(env.text("SPOOL_DIR", str(VAR_DIR / "spool")))
SPOOL_FLUSH_MS = env.whole("SPOOL_FLUSH_MS", 50, least=1)
SPOOL_MAX_AGE_SECONDS = env.whole("SPOOL_MAX_AGE_SECONDS", 900, least=1)
SPOOL_MOST_ACCOUNTS = env.whole("SPOOL_MOST_ACCOUNTS", 500_000, least=1000)
SPOOL_MAX_BYTES = env.whole("SPOOL_MAX_BYTES", 512 * 1024 * 1024, least=1024)

# ── The data plane: nothing is endless ───────────────────────────────────────────────────────────
MAX_BODY_BYTES = env.whole("MAX_BODY_BYTES", 20 * 1024 * 1024, least=1024)
MAX_JSON_DEPTH = env.whole("MAX_JSON_DEPTH", 64, least=8)
MAX_REPLY_BYTES = env.whole("MAX_REPLY_BYTES", 64 * 1024 * 1024, least=1024)
MAX_EVENT_BYTES = env.whole("MAX_EVENT_BYTES", 1024 * 1024, least=1024)
MAX_HEAD_BYTES = env.whole("MAX_HEAD_BYTES", 32 * 1024, least=1024)
MAX_CONNECTIONS = env.whole("MAX_CONNECTIONS", 10_000, least=1)
MAX_CALLS_PER_WORKER = env.whole("MAX_CALLS_PER_WORKER", 2000, least=1)
MAX_CALLS_PER_ORGANIZATION = env.whole("MAX_CALLS_PER_ORGANIZATION", 1000, least=1)
PREVIEWS_PER_MINUTE = env.whole("PREVIEWS_PER_MINUTE", 600, least=1)
READ_HEAD_SECONDS = env.whole("READ_HEAD_SECONDS", 10, least=1)
READ_BODY_SECONDS = env.whole("READ_BODY_SECONDS", 60, least=1)
WEB_CONCURRENCY = env.whole("WEB_CONCURRENCY", 1, least=1)
CONNECT_SECONDS = env.whole("CONNECT_SECONDS", 5, least=1)
FIRST_EVENT_SECONDS = env.whole("FIRST_EVENT_SECONDS", 30, least=1)
IDLE_SECONDS = env.whole("IDLE_SECONDS", 60, least=1)
TOTAL_SECONDS = env.whole("TOTAL_SECONDS", 600, least=1)
STALLED_READER_SECONDS = env.whole("STALLED_READER_SECONDS", 60, least=1)
KEEP_ALIVE_SECONDS = env.whole("KEEP_ALIVE_SECONDS", 10, least=1)
KEY_CACHE_SECONDS = env.whole("KEY_CACHE_SECONDS", 30, least=1)
KEY_STALE_SECONDS = env.whole("KEY_STALE_SECONDS", 3600, least=1)
IDEMPOTENCY_SECONDS = env.whole("IDEMPOTENCY_SECONDS", 24 * 60 * 60, least=60)
IDEMPOTENCY_MOST_BYTES = env.whole("IDEMPOTENCY_MOST_BYTES", 1024 * 1024, least=0)
IDEMPOTENCY_ORGANIZATION_BYTES = env.whole("IDEMPOTENCY_ORGANIZATION_BYTES", 16 * 1024 * 1024, least=0)
LOG_MOST_BYTES = env.whole("LOG_MOST_BYTES", 256 * 1024, least=1024)
LOG_BUFFER_BYTES = env.whole("LOG_BUFFER_BYTES", 16 * 1024 * 1024, least=0)
DRAIN_PROVIDER_SECONDS = env.whole("DRAIN_PROVIDER_SECONDS", 60, least=1)
DRAIN_PROVIDER_BYTES = env.whole("DRAIN_PROVIDER_BYTES", 8 * 1024 * 1024, least=1024)
DRAIN_PROVIDER_MOST = env.whole("DRAIN_PROVIDER_MOST", 32, least=0)
PROVIDER_CONNECTIONS = env.whole("PROVIDER_CONNECTIONS", max(MAX_CALLS_PER_WORKER // 2, 1), least=1)
POOL_WAIT_SECONDS = env.whole("POOL_WAIT_SECONDS", 1, least=1)

# ── Live figures of endpoints ────────────────────────────────────────────────────────────────────
VITALS_KEPT_DAYS = env.whole("VITALS_KEPT_DAYS", 30, least=2)
VITALS_DAYS_KEPT_DAYS = env.whole("VITALS_DAYS_KEPT_DAYS", 400, least=30)
EXPLORE = env.flag("EXPLORE", True)
PROBES = env.flag("PROBES", True)
PROBE_SECONDS = env.whole("PROBE_SECONDS", 60, least=5)
PROBE_USD = env.decimal("PROBE_USD", "0.001")
PROBE_USD_PER_DAY = env.decimal("PROBE_USD_PER_DAY", "0.02")

# ── Stopping ─────────────────────────────────────────────────────────────────────────────────────
DRAIN_LISTEN_SECONDS = env.whole("DRAIN_LISTEN_SECONDS", 1 if EMBEDDED else 10)
DRAIN_SECONDS = env.whole("DRAIN_SECONDS", 5 if EMBEDDED else TOTAL_SECONDS)

# ── Money ────────────────────────────────────────────────────────────────────────────────────────
FREE_LOSS_PER_DAY_USD = env.decimal("FREE_LOSS_PER_DAY_USD", "5")
GRANT_MOST_USD = env.decimal("GRANT_MOST_USD", "500")
PRICE_APPROVAL_PERCENT = env.decimal("PRICE_APPROVAL_PERCENT", "10")
METRICS_TOKEN = env.secret("METRICS_TOKEN", "")
OPERATOR_EMAILS = env.names("OPERATOR_EMAILS", ("operator@fairlead.invalid",) if EMBEDDED else ())
CONTACT_EMAIL = env.text("CONTACT_EMAIL", "help@fairlead.invalid" if EMBEDDED else "")
STARTING_CREDIT_USD = env.decimal("STARTING_CREDIT_USD", "1" if EMBEDDED else "0")

# ── What documents say of us ─────────────────────────────────────────────────────────────────────
SELLER_NAME = env.text("SELLER_NAME", "Fairlead")
SELLER_ADDRESS = env.names("SELLER_ADDRESS")
SELLER_TAX_ID = env.text("SELLER_TAX_ID", "")
SELLER_EMAIL = env.text("SELLER_EMAIL", CONTACT_EMAIL)

# ── Stripe ───────────────────────────────────────────────────────────────────────────────────────
STRIPE_SECRET_KEY = env.secret("STRIPE_SECRET_KEY", "")
STRIPE_WEBHOOK_SECRETS = [
    each.strip() for each in env.secret("STRIPE_WEBHOOK_SECRETS", "").split(",") if each.strip()
]
STRIPE_API_BASE = env.text("STRIPE_API_BASE", "").rstrip("/") if EMBEDDED else ""
STRIPE_PAGES = (
    [STRIPE_API_BASE]
    if STRIPE_API_BASE
    else [
        "https://checkout.stripe.com",
        "https://billing.stripe.com",
    ]
)
STRIPE_TAX = env.flag("STRIPE_TAX")
BILLING_GRACE_DAYS = env.whole("BILLING_GRACE_DAYS", 7, least=0)
GENERATION_MONTHS_KEPT = env.whole("GENERATION_MONTHS_KEPT", 25, least=0)
CHECKOUTS_PER_HOUR = env.whole("CHECKOUTS_PER_HOUR", 5, least=1)

# ── What customers' URLs are told ────────────────────────────────────────────────────────────────
EGRESS_PORTS = env.names("EGRESS_PORTS", ("443", "8443"))
WEBHOOK_DAYS_KEPT = env.whole("WEBHOOK_DAYS_KEPT", 30, least=4)
WEBHOOKS_BY_HAND_PER_HOUR = env.whole("WEBHOOKS_BY_HAND_PER_HOUR", 60, least=1)

# ── The sandbox ──────────────────────────────────────────────────────────────────────────────────
SANDBOX_BASE_URL = env.text("SANDBOX_BASE_URL", "").rstrip("/") if EMBEDDED else ""

# ── Celery ───────────────────────────────────────────────────────────────────────────────────────
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_TIME_LIMIT = 300
CELERY_TASK_SOFT_TIME_LIMIT = 240
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 600}
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULER = "aggregator.beat:OnlyOne"

# ── Signing in ───────────────────────────────────────────────────────────────────────────────────
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/home"
LOGOUT_REDIRECT_URL = "/"
ACCOUNT_ADAPTER = "accounts.signup.Adapter"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_EMAIL_VERIFICATION_BY_CODE_ENABLED = True
ACCOUNT_PASSWORD_RESET_BY_CODE_ENABLED = True
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_LOGOUT_ON_PASSWORD_CHANGE = True
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_CHANGE_EMAIL = True
ACCOUNT_EMAIL_VERIFICATION_SUPPORTS_RESEND = True  # …_SUPPORTS_CHANGE would tell which e-mails are known
ACCOUNT_REAUTHENTICATION_REQUIRED = True
ACCOUNT_EMAIL_NOTIFICATIONS = True
ACCOUNT_REAUTHENTICATION_TIMEOUT = 300
INVITATIONS_PER_HOUR = env.whole("INVITATIONS_PER_HOUR", 30, least=1)
FACTOR_KEYS = [
    each.strip()
    for each in env.secret("FACTOR_KEYS", SECRET_KEY if EMBEDDED else "").split(",")
    if each.strip()
]
MFA_ADAPTER = "accounts.factors.Adapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_RECOVERY_CODES_SHOW_ONCE = True
MFA_TOTP_ISSUER = "Fairlead"
MFA_TOTP_TOLERANCE = 1
ACCOUNT_RATE_LIMITS = {"contact": "5/h/ip,3/h/key"}  # besides allauth's own
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.ScryptPasswordHasher"]

# ── E-mail: the embedded default drops each message as a file that a person can open ─────────────
EMAIL_DIR = VAR_DIR / "mail"
EMAIL_URL = env.secret("EMAIL_URL", "")
if EMAIL_URL:
    vars().update(environ.Env.email_url_config(EMAIL_URL))
elif EMBEDDED:
    EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    EMAIL_FILE_PATH = str(EMAIL_DIR)
else:
    EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
EMAIL_TIMEOUT = env.whole("EMAIL_TIMEOUT", 10, least=1)
DEFAULT_FROM_EMAIL = env.text("DEFAULT_FROM_EMAIL", "Fairlead <no-reply@fairlead.invalid>")

# ── Static files ─────────────────────────────────────────────────────────────────────────────────
STATIC_URL = "/static/"
STATIC_ROOT = None if EMBEDDED else BASE_DIR / "staticfiles"  # embedded: served where they lie
NODE_MODULES = BASE_DIR / "node_modules"
STATICFILES_DIRS = [
    ("tabler/css", NODE_MODULES / "@tabler" / "core" / "dist" / "css"),
    ("tabler/js", NODE_MODULES / "@tabler" / "core" / "dist" / "js"),
]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if EMBEDDED
        else "whitenoise.storage.CompressedStaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = EMBEDDED
WHITENOISE_AUTOREFRESH = DEBUG

# ── Content security policy: no inline script, no other origin ───────────────────────────────────
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'", *STRIPE_PAGES],  # where a form's answer may lead
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
    },
}
ADMIN_CONTENT_SECURITY_POLICY = {  # what differs in the admin: its widgets evaluate expressions
    "script-src": ["'self'", "'unsafe-eval'", "'unsafe-inline'"],
    "style-src": ["'self'", "'unsafe-inline'"],
}

# ── The operators' back office ───────────────────────────────────────────────────────────────────
UNFOLD = {
    "SITE_TITLE": "Fairlead operations",
    "SITE_HEADER": "Fairlead operations",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda _: f"{STATIC_URL}fairlead/mark.svg"},
    ],
    "SITE_ICON": lambda _: f"{STATIC_URL}fairlead/mark.svg",
    "COLORS": {
        "primary": {
            "50": "239, 246, 255",
            "100": "219, 234, 254",
            "200": "191, 219, 254",
            "300": "147, 197, 253",
            "400": "96, 165, 250",
            "500": "59, 130, 246",
            "600": "6, 111, 209",
            "700": "5, 89, 167",
            "800": "30, 64, 175",
            "900": "30, 58, 138",
            "950": "23, 37, 84",
        },
    },
    "DASHBOARD_CALLBACK": "aggregator.site.operators.dashboard",
    "SIDEBAR": {"show_search": True, "navigation": "aggregator.site.sidebar.navigation"},
}

# ── Management API ───────────────────────────────────────────────────────────────────────────────
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["aggregator.rest.KeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["aggregator.rest.RouteAllows"],
    "DEFAULT_RENDERER_CLASSES": ["aggregator.rest.ExactJSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["aggregator.rest.ExactJSON"],
    "EXCEPTION_HANDLER": "aggregator.rest.render_error",
    "UNAUTHENTICATED_USER": None,
}

# ── Logs ─────────────────────────────────────────────────────────────────────────────────────────
LOG_LEVEL = env.choice("LOG_LEVEL", ("DEBUG", "INFO", "WARNING", "ERROR"), "INFO")
LOGGING_CONFIG = "aggregator.lib.log.configure"
LOGGING = {"level": LOG_LEVEL}
