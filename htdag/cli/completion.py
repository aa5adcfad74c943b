"""The command for completion of commands, options and tags in a shell."""

from __future__ import annotations

import click

from htdag.cli.main import main


@click.command(short_help="Print code that makes a shell complete commands and tags.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the code that makes a shell complete htdag's commands, options and tags.

    \b
    Examples, each to be run once:
      htdag completion bash > ~/.local/share/bash-completion/completions/htdag
      echo 'eval "$(htdag completion zsh)"' >> ~/.zshrc
      htdag completion fish > ~/.config/fish/completions/htdag.fish
    """
    from click.shell_completion import get_completion_class

    completion_class = get_completion_class(shell)
    assert completion_class is not None  # click knows all three
    code = completion_class(main, {}, "htdag", "_HTDAG_COMPLETE")
    # Not with source(), which starts a bash to ask for its version.
    click.echo(code.source_template % code.source_vars())
