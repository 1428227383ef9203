"""Which sessions are reached at an address, or by an audience: what a delivery begins with."""

from collections.abc import Collection

from notifier.core.audience import Address, Audience
from notifier.core.identity import Tenant
from notifier.core.session import Session


class Index:
    """Sessions by tenant and address. What a session is reached by may change only while it is not in here."""

    def __init__(self) -> None:
        # Most people have one session: a set for each of them would cost 200 bytes.
        self._tenants: dict[Tenant, dict[Address, Session | set[Session]]] = {}

    def add(self, session: Session) -> None:
        """Take in a session at each of its addresses."""
        index = self._tenants.setdefault(session.identity.tenant, {})
        for address in session.addresses():
            there = index.setdefault(address, session)
            if isinstance(there, set):
                there.add(session)
            elif there is not session:
                index[address] = {there, session}

    def remove(self, session: Session) -> None:
        """Let go of a session that is here."""
        index = self._tenants[session.identity.tenant]
        for address in session.addresses():
            there = index[address]
            if isinstance(there, set):
                there.remove(session)
            if there is session or not there:
                del index[address]
        if not index:
            del self._tenants[session.identity.tenant]

    def at(self, tenant: Tenant, address: Address) -> Collection[Session]:
        """The sessions of one address."""
        return _at(self._tenants.get(tenant, {}), address)

    def reached(self, tenant: Tenant, audience: Audience) -> Collection[Session]:
        """The sessions that a notification to this audience is for, each once."""
        index = self._tenants.get(tenant)
        if index is None:
            return ()
        if len(audience.include) == 1:
            reached = _at(index, audience.include[0])
        else:
            reached = set().union(*(_at(index, address) for address in audience.include))
        if audience.exclude:
            return set(reached).difference(*(_at(index, address) for address in audience.exclude))
        return reached


def _at(index: dict[Address, Session | set[Session]], address: Address) -> Collection[Session]:
    there = index.get(address, ())
    return (there,) if isinstance(there, Session) else there
