"""The command `htdag`: the group of its verbs, and how it ends."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from typing import Any

import click

from htdag.checks import validation
from htdag.cli.console import DONE, FAILED, INTERRUPTED, say, status_of
from htdag.common.package import VERSION
from htdag.config import log
from htdag.config.log import LOGGER
from htdag.errors import HtdagError


class Verbs(click.Group):
    """A group of commands, which knows what was probably meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb, or say which one was probably meant."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            otherwise = f"see: {ctx.command_path} --help"
            hint = validation.did_you_mean(args[0], self.list_commands(ctx), otherwise)
            raise click.UsageError(f"there is no command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the verbs in the order in which they are defined."""
        return list(self.commands)


class _Htdag(Verbs):
    """A group whose commands end as the exit statuses say, errors as one message on stderr."""

    def __init__(self, *args: Any, **extra: Any) -> None:
        super().__init__(*args, **extra)
        self._sections: list[tuple[str, list[str]]] = []

    def add_section(self, title: str, *verbs: click.Command) -> None:
        """Add verbs that the help lists together, below those that were added before."""
        for verb in verbs:
            self.add_command(verb)
        self._sections.append((title, [str(verb.name) for verb in verbs]))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what the verbs do, section by section, in columns that are the same for all."""
        width = max(map(len, self.commands))
        room = formatter.width - width - 6
        for title, names in self._sections:
            with formatter.section(title):
                formatter.write_dl(
                    [
                        (name.ljust(width), self.commands[name].get_short_help_str(room))
                        for name in names
                    ]
                )

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command and leave Python with its exit status."""
        for stream in (sys.stdout, sys.stderr):
            # A tag may hold letters that the terminal cannot show.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        extra |= {"prog_name": "htdag", "standalone_mode": False}
        try:
            log.to_file()
            LOGGER.debug("command: %s", args[0] if args else sys.argv[1:])
            with warnings.catch_warnings():
                warnings.simplefilter("default", UserWarning)
                warnings.showwarning = _told
                status = super().main(*args, **extra)
            sys.stdout.flush()
        except click.ClickException as error:
            error.show()
            status = error.exit_code
        except (click.Abort, KeyboardInterrupt):
            say("htdag: interrupted", err=True)
            status = INTERRUPTED
        except HtdagError as error:
            LOGGER.debug("%s", error, exc_info=True)
            say(f"htdag: {error}", err=True)
            status = status_of(error)
        except OSError as error:
            if error.errno == errno.EPIPE:
                # Who read the output has had enough of it; Python's own flush at its end has too.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            else:
                LOGGER.error("%s", error, exc_info=True)
                say(f"htdag: {error}", err=True)
            status = FAILED
        except Exception:
            LOGGER.exception("the command failed")
            raise
        sys.exit(status if isinstance(status, int) else DONE)


def _told(message: Warning | str, *place: object, **more: object) -> None:
    """Say what is warned of as a message, not as a line of htdag's source."""
    say(f"htdag: {message}", err=True)


_EXIT_STATUS = """\b
Exit status:
  0    done
  1    the run failed, is on hold, or could not be reached
  2    a mistake in the command, such as a tag that does not exist
  3    the run, or its result, is not done yet
  130  interrupted
"""


@click.group(
    cls=_Htdag,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EXIT_STATUS,
)
@click.version_option(VERSION, message="%(prog)s %(version)s", prog_name="htdag")
def main() -> None:
    """Look at htdag runs, wait for them, and take their results.

    A run is one execution of a pipeline: a Python script starts it and gives it a tag, and it goes
    on when the script has ended. These commands work from any folder, and need the tag only.

    \b
    Examples:
      htdag status "my survey"    how far has this run come?
      htdag errors "my survey"    what failed in it, and why?
      htdag errors --help         what else can be asked?
    """
