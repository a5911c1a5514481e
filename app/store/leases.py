"""A lease: of all replicas one runs the monitor, and another takes over when it is gone."""

from __future__ import annotations

from sqlalchemy import BigInteger, ColumnElement, Connection, case, cast, func, literal_column, or_, select

from app.store.dialects import insert_into
from app.store.tables import LEASES
from app.types import SECOND, Micros


def acquire(connection: Connection, name: str, holder: str, *, seconds: float) -> int | None:
    """Take or renew a lease for some seconds by the database's clock.

    Returns:
        the fencing token, which grows with every change of holder; None while another holds the lease.
    """
    now = _now(connection)
    until = now + round(seconds * SECOND)
    taking = insert_into(connection.dialect, LEASES).values(name=name, holder=holder, until=until, token=1)
    mine = LEASES.c.holder == holder
    taking = taking.on_conflict_do_update(
        index_elements=["name"],
        set_={"holder": holder, "until": until, "token": LEASES.c.token + case((mine, 0), else_=1)},
        where=or_(mine, LEASES.c.until < now),
    )
    connection.execute(taking)
    row = connection.execute(select(LEASES).where(LEASES.c.name == name)).one()
    return int(row.token) if row.holder == holder else None


def release(connection: Connection, name: str, holder: str) -> None:
    """Give a lease up, so that another replica need not wait for its end."""
    connection.execute(LEASES.update().where(LEASES.c.name == name, LEASES.c.holder == holder).values(until=0))


def database_now(connection: Connection) -> Micros:
    """The database's clock: the one that all replicas share."""
    return Micros(int(connection.execute(select(_now(connection))).scalar_one()))


def _now(connection: Connection) -> ColumnElement[int]:
    if connection.dialect.name == "sqlite":
        return cast(literal_column("(julianday('now') - 2440587.5) * 86400000000.0"), BigInteger)
    return cast(func.extract("epoch", func.clock_timestamp()) * SECOND, BigInteger)
