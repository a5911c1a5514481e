"""``plumbline alerts``: whether those who should be told can be."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from app.commands.serve import ConfigFile
from app.config.loader import load_config
from app.types import Json, Micros

if TYPE_CHECKING:
    from app.alerting.channels.base import SendingThread


def try_channels(config: ConfigFile = Path("config.yaml")) -> None:
    """Send a test message to every channel of alerts.notify; exit code 1 if one failed."""
    settings = load_config(config, os.environ)
    from app.alerting.channels.base import SendingThread
    from app.alerting.channels.routes import open_channels
    from app.alerting.messages import sample_message

    routes = open_channels(settings.alerts.notify)
    if not routes:
        typer.echo("alerts.notify names no channel: nobody is told of anything")
    threads = {route.channel.name: SendingThread(route.channel) for route in routes}
    message = sample_message(settings.server.address, now=Micros(time.time_ns() // 1000))

    async def send_all() -> list[bool]:
        return list(await asyncio.gather(*(_send(name, thread, message) for name, thread in threads.items())))

    if not all(asyncio.run(send_all())):
        raise typer.Exit(1)


async def _send(name: str, thread: SendingThread, message: Json) -> bool:
    from app.alerting.channels.base import ChannelFailed

    try:
        await thread.send(message)
    except ChannelFailed as failure:
        typer.echo(f"{name}: failed: {failure}")
        return False
    typer.echo(f"{name}: sent")
    return True


def alerts() -> typer.Typer:
    """The group of commands."""
    group = typer.Typer(help="Whether those who should be told of alerts can be.", no_args_is_help=True)
    group.callback()(_group)
    group.command("test")(try_channels)
    return group


def _group() -> None:
    """Try the channels of alerts."""
