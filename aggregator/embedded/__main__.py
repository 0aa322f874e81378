"""`python -m aggregator.embedded`: start everything, make one request, stay up until told to stop."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from aggregator.embedded import first_request, guardian, stack
from aggregator.embedded.report import Failure, complain, say
from aggregator.embedded.state import State
from aggregator.lib import env


def main() -> int:
    arguments = _arguments()
    try:
        state = State(Path(env.text("VAR_DIR", str(stack.PROJECT / "var"))))
    except ImproperlyConfigured as error:
        complain(error, "none yet")
        return 1
    return guardian.guard(lambda: run(state, arguments))


def run(state: State, arguments: argparse.Namespace) -> int:
    """The work, in the guarded process. Its exit code is the program's."""
    house: stack.Stack | None = None
    up = False
    try:
        began = time.monotonic()
        state.open()
        house = stack.Stack(state, tuple(arguments.parts.split(",")))
        secrets = state.secrets()
        say(f"Fairlead, the embedded default; its state is in {state.directory}")
        house.start(secrets)
        _welcome(house, request=arguments.request, began=began)
        house.supervisor.check_running()
        up = True
        if arguments.once:
            return 0
        say("Running. Ctrl-C stops everything.")
        try:
            house.supervisor.watch()
        finally:
            state.withdraw()
    except guardian.Stopped as stopped:
        return 0 if up else 128 + stopped.signum
    except (Failure, ImproperlyConfigured, OSError) as failure:
        complain(failure, state.log_dir)
        return 1
    finally:
        guardian.deaf()
        if house is not None:
            house.stop()
            say("Stopped.")
    return 0


def _welcome(house: stack.Stack, *, request: bool, began: float) -> None:
    facts = house.facts()
    if request:
        try:
            first_request.make(facts["api_base"], facts["api_key"])
        except Failure:
            house.distrust()
            raise
    path = house.state.publish(facts)
    say(f"  ready after {time.monotonic() - began:.1f} s")
    say(f"  open        {facts['base_url']}")
    if facts["email"]:
        say(f"  sign in as  {facts['email']} with {facts['password']}")
    say(f"  e-mail      lies in {house.state.mail_dir}")
    say(f"  logs        lie in {house.state.log_dir}")
    say(f"  for tools   {path}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="deploy/dev", description=__doc__)
    parser.add_argument("--once", action="store_true", help="make the request, stop everything, exit")
    parser.add_argument("--no-request", dest="request", action="store_false", help="make no first request")
    parser.add_argument("--parts", default=",".join(stack.PARTS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    unknown = set(arguments.parts.split(",")) - set(stack.PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    arguments.request = arguments.request and "gateway" in arguments.parts.split(",")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
