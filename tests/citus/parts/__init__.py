"""The parts, in the order in which they run. Each takes the world, and leaves the rollups equal to the call log."""

from parts.commands import adopted, doubles, dropped, forgotten, rebuilt, repriced, replayed
from parts.faults import killed, rebalanced
from parts.loading import beside, counted, listed, poison, spread, unnamed
from parts.reading import admins, answered, called, shown

# The first begins the daemon and distributes the tables: it runs with every choice of parts.
ALL = [
    *(spread, listed, poison, repriced, doubles, rebuilt, forgotten, adopted, dropped, replayed),
    *(answered, shown, called, unnamed, counted, admins, beside, killed, rebalanced),
]
