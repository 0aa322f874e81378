"""How gunicorn serves `aggregator.asgi:application`; each value from the environment."""

import ctypes
import importlib
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from aggregator import worker
from routing.core import tokencount

# Read once, by the master, and shared: what no setting reaches. A worker that takes another's place is
# there in half the time.
_SHARED = (
    *("celery.app.base", "django.contrib.admin.utils", "django.db.backends.postgresql.base", "httptools"),
    *("httpx", "msgspec", "psycopg_pool", "redis.asyncio", "rest_framework.compat", "structlog", "uvloop"),
)
for _name in _SHARED:
    importlib.import_module(_name)
tokencount.warm()


def _whole(name, default):
    return int(os.environ.get(name, "").strip() or default)


bind = f"{os.environ.get('HOST', '').strip() or '127.0.0.1'}:{_whole('PORT', 8000)}"
worker_class = worker.Worker
workers = _whole("WEB_CONCURRENCY", 1)
keepalive = _whole("KEEP_ALIVE_SECONDS", 10)
timeout = 60
backlog = 2048
accesslog = None
errorlog = "-"
loglevel = "warning"
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108
control_socket_disable = True


def on_starting(server):
    """Contradictory settings refuse to start, before a port is opened."""
    server.cfg.set("graceful_timeout", worker.verified())


def on_reload(server):
    """Settings may come from files that have changed: a bad one must not end what runs."""
    try:
        on_starting(server)
    except SystemExit as refused:
        server.log.error("reloaded with settings that contradict each other: %s", refused)


def post_fork(server, forked):
    """A worker whose master was killed would hold the port for ever: ask the kernel to end it too."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    if os.getppid() != forked.ppid:
        os.kill(os.getpid(), signal.SIGTERM)
