#!/usr/bin/env python
"""Django's command line. Beside a running `deploy/dev` it needs no setting."""

import os
import sys

from django.core.management import execute_from_command_line

from aggregator.embedded import environment

if __name__ == "__main__":
    environment.adopt()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aggregator.settings")
    execute_from_command_line(sys.argv)
