"""One call from its arguments to its exit code: parses with Typer, maps every error to a line and a number."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Final, NoReturn

import typer
import typer.main

from identitymesh.cli.main import INTERRUPTED, PROGRAM, SECRETS_PROGRAM, completing
from identitymesh.cli.output import Output
from identitymesh.cli.overview import command_names, overview, version
from identitymesh.cli.session import Openers, Session, session_of
from identitymesh.cli.streams import print_everything_printable, reader_is_gone
from identitymesh.errors import ExitCode, MeshError, UsageError

_JSON: Final = "--json"
_DEBUG: Final = "--debug"


class Unforeseen(MeshError):
    """Something that no line of the product expected. Says its type alone: the message could hold a value."""

    code = "unforeseen"


def carry_out(program: str, arguments: Sequence[str], openers: Openers) -> int:
    """Run one call of one of the two programs."""
    print_everything_printable()
    stdout = sys.stdout
    session = Session(Output(as_json=_given(arguments, _JSON)), openers, debug=_given(arguments, _DEBUG))
    try:
        code = _invoke(program, arguments, session)
        session.out.finish()
    except BrokenPipeError:
        return reader_is_gone()
    except SystemExit:
        if sys.stdout is not stdout:  # Typer puts another one in its place when nobody reads on
            return reader_is_gone()
        raise
    return code


def _invoke(program: str, arguments: Sequence[str], session: Session) -> int:
    out = session.out
    try:
        command = parser(program, arguments)
        answer = command.main(args=list(arguments), prog_name=program, standalone_mode=False, obj=session)
    except BrokenPipeError:
        raise
    except MeshError as error:
        out.error(error)
        return int(error.exit_code)
    except typer.TyperException as error:
        out.error(_usage(error))
        return int(ExitCode.USAGE)
    except (KeyboardInterrupt, typer.Abort):
        return _stopped(session)
    except Exception as error:  # noqa: BLE001 - the one place where what nobody foresaw ends, instead of a traceback
        return _unforeseen(error, session)
    if answer == INTERRUPTED:  # Typer turns Ctrl-C into an exit with this code
        return _stopped(session)
    return answer if isinstance(answer, int) else int(ExitCode.DONE)


def _stopped(session: Session) -> int:
    session.out.stopped(session.when_stopped, INTERRUPTED)
    return INTERRUPTED


def _usage(error: typer.TyperException) -> UsageError:
    ctx = getattr(error, "ctx", None)
    message = error.format_message().strip()
    if ctx is not None and (type(error).__name__ == "NoArgsIsHelpError" or message == "Missing command."):
        return UsageError(f"{ctx.command_path} needs a command", hint=_choices(ctx))
    hint = f"See: {ctx.command_path} --help" if ctx is not None else ""
    return UsageError(message[:1].lower() + message[1:].rstrip("."), hint=hint)


def _choices(ctx: Any) -> str:
    return "\n".join(f"{ctx.command_path} {name}" for name in ctx.command.list_commands(ctx))


def _unforeseen(error: Exception, session: Session) -> int:
    where = _frames(error.__traceback__) if session.debug else ""
    hint = where or "Run it again as `identitymesh --debug ...` to see where; that text is fit for a report."
    session.out.error(Unforeseen(f"unforeseen {type(error).__name__}; this is a fault of Identity Mesh", hint=hint))
    return int(ExitCode.FAILED)


def _frames(trace: TracebackType | None) -> str:
    """Where it happened: files, lines and code. No message and no local, either could hold a credential."""
    import traceback

    return "".join(traceback.format_tb(trace)).rstrip()


def _given(arguments: Sequence[str], option: str) -> bool:
    """Known before anything is parsed, so that a wrong call is answered in the form that was asked for."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return option in options


# Parsing


def parser(program: str, arguments: Sequence[str]) -> Any:
    """The Typer command of a program, with the commands that these arguments may call."""
    app = typer.Typer(
        name=program,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=True,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    if program == SECRETS_PROGRAM:
        from identitymesh.cli import secretscli

        app.callback(help=secretscli.__doc__)(_secretscli)
        secretscli.register(app)
    else:
        app.callback(add_help_option=False)(_identitymesh)
        for name in _needed(arguments):
            importlib.import_module(f"identitymesh.cli.commands.{name.replace('-', '_')}").register(app)
    command = typer.main.get_command(app)
    _offer_json(command)
    return command


def _needed(arguments: Sequence[str]) -> list[str]:
    """The one command that is called, if that is clear; else all, for completion and for what was probably meant."""
    names = command_names()
    if not completing(PROGRAM):
        words = [word for word in arguments if word in names]
        if words and not any(_before(arguments, words[0], option) for option in ("--home",)):
            return words[:1]
    return names


def _before(arguments: Sequence[str], word: str, option: str) -> bool:
    """Whether this word is the value of that option, as in a folder named like a command."""
    at = arguments.index(word)
    return at > 0 and arguments[at - 1] == option


def _offer_json(command: Any, option: Any = None) -> None:
    """Every command has --json, and takes it at any place; without saying so in each."""
    option = option if option is not None else _json_option()
    command.params.append(option)
    for child in getattr(command, "commands", {}).values():
        _offer_json(child, option)


def _json_option() -> Any:
    """The option as Typer makes it, taken from a command of its own."""

    def takes_it(
        *,
        json: Annotated[
            bool,
            typer.Option(
                _JSON,
                expose_value=False,
                help="One JSON document on standard output; errors as JSON on standard error.",
            ),
        ] = False,
    ) -> None:
        """Never called."""

    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(takes_it)
    return next(one for one in typer.main.get_command(app).params if one.name == "json")


def _show_overview(ctx: typer.Context, wanted: bool) -> None:  # noqa: FBT001 - Typer calls it so
    if wanted and not ctx.resilient_parsing:
        _say(overview())


def _show_version(ctx: typer.Context, wanted: bool) -> None:  # noqa: FBT001 - Typer calls it so
    if wanted and not ctx.resilient_parsing:
        _say(version())


def _say(text: str) -> NoReturn:
    sys.stdout.write(text)
    raise typer.Exit


_Home = Annotated[
    Path | None,
    typer.Option(
        "--home",
        metavar="DIR",
        file_okay=False,
        exists=True,
        help="The folder of the installation; default IDENTITYMESH_HOME or the current one.",
    ),
]
_Debug = Annotated[bool, typer.Option(_DEBUG, help="After an unforeseen error, show where it happened.")]


def _identitymesh(
    ctx: typer.Context,
    *,
    home: _Home = None,
    _debug: _Debug = False,
    _version: Annotated[bool, typer.Option("--version", is_eager=True, callback=_show_version)] = False,
    _help: Annotated[bool, typer.Option("--help", "-h", is_eager=True, callback=_show_overview)] = False,
) -> None:
    session_of(ctx).home = home


def _secretscli(ctx: typer.Context, *, home: _Home = None, _debug: _Debug = False) -> None:
    session_of(ctx).home = home
