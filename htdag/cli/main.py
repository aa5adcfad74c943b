"""The command `htdag`: the group of all commands, and their exit statuses."""

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
    """A group of commands that suggests a name for a misspelt one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command, or fail with the name that was probably meant."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            otherwise = f"see: {ctx.command_path} --help"
            hint = validation.did_you_mean(args[0], self.list_commands(ctx), otherwise)
            raise click.UsageError(f"there is no command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in the order in which they are defined."""
        return list(self.commands)


class _Htdag(Verbs):
    """The group of all commands, which maps errors to a message on stderr and an exit status."""

    def __init__(self, *args: Any, **extra: Any) -> None:
        super().__init__(*args, **extra)
        self._sections: list[tuple[str, list[str]]] = []

    def add_section(self, title: str, *verbs: click.Command) -> None:
        """Add commands that the help lists together, below those added before."""
        for verb in verbs:
            self.add_command(verb)
        self._sections.append((title, [str(verb.name) for verb in verbs]))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, section by section, with the same columns in all."""
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
        """Run a command and exit Python with its status."""
        for stream in (sys.stdout, sys.stderr):
            # A tag may have characters that the terminal cannot show.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        extra |= {"prog_name": "htdag", "standalone_mode": False}
        try:
            log.log_to_file()
            LOGGER.debug("command: %s", args[0] if args else sys.argv[1:])
            with warnings.catch_warnings():
                warnings.simplefilter("default", UserWarning)
                warnings.showwarning = _show_warning
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
                # The reader has closed the pipe; keep Python's flush at exit from failing, too.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            else:
                LOGGER.error("%s", error, exc_info=True)
                say(f"htdag: {error}", err=True)
            status = FAILED
        except Exception:
            LOGGER.exception("the command failed")
            raise
        sys.exit(status if isinstance(status, int) else DONE)


def _show_warning(message: Warning | str, *place: object, **more: object) -> None:
    """Print a warning as a message, without the line of htdag's source."""
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
    """Inspect htdag runs, wait for them, and get their results.

    A run is one execution of a pipeline: a Python script starts it and gives it a tag, and it goes
    on when the script has ended. These commands work from any folder, and need only the tag.

    \b
    Examples:
      htdag status "my survey"    show how far the run has come
      htdag errors "my survey"    show what failed, and why
      htdag errors --help         show the options of a command
    """
