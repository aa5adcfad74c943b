"""The command that shows the settings."""

from __future__ import annotations

import click

from htdag.cli.console import JSON, print_json, say


@click.command(short_help="Show the settings, and where each comes from.")
@JSON
def settings(as_json: bool) -> None:
    """Show all settings, where each comes from, and where htdag keeps its files.

    A setting comes from the script, or else from the environment variable, the settings file, or
    the default.

    \b
    Example:
      htdag settings
    """
    from htdag.config import directories
    from htdag.config import settings as _settings

    values = _settings.every()
    path = _settings.file()
    options = _settings.options()
    folders = {
        "settings": str(path),
        "runs": str(directories.runs_directory()),
        "pool": str(directories.pool_directory()),
        "log": str(directories.log_file()),
    }
    if as_json:
        content = {each.setting.name: {"value": each.value, "from": each.origin} for each in values}
        print_json({"settings": content, "options": options, "files": folders})
        return
    from htdag.show.tables import print_folders, print_settings

    print_settings(values, options, str(path))
    say()
    print_folders(folders)
    if not path.exists():
        say(f"\nThere is no {path}; it would be TOML, with lines such as: on = 'local'")
