"""How gunicorn serves `aggregator.asgi:application`; each value from the environment."""

import ctypes
import os
import signal

import uvicorn_worker


class Worker(uvicorn_worker.UvicornWorker):
    """uvloop and httptools; a start that fails ends the worker; no header names the server."""

    CONFIG_KWARGS = {
        "loop": "uvloop",
        "http": "httptools",
        "lifespan": "on",
        "server_header": False,
        "access_log": False,
        "proxy_headers": False,
        "ws": "none",
    }


def _whole(name, default):
    return int(os.environ.get(name, "").strip() or default)


bind = f"{os.environ.get('HOST', '').strip() or '127.0.0.1'}:{_whole('PORT', 8000)}"
worker_class = Worker
workers = _whole("WEB_CONCURRENCY", 1)
# A stream may last TOTAL_SECONDS: with less than that here, a stop cuts the longest ones.
graceful_timeout = _whole("GRACEFUL_SECONDS", 30)
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
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aggregator.settings")
    import django
    from django.core.management import call_command
    from django.core.management.base import SystemCheckError

    django.setup()
    try:
        call_command("check")
    except SystemCheckError as error:
        raise SystemExit(" ".join(str(error).split())) from None


def post_fork(server, worker):
    """A worker whose master was killed would hold the port for ever: ask the kernel to end it too."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    if os.getppid() != worker.ppid:
        os.kill(os.getpid(), signal.SIGTERM)
