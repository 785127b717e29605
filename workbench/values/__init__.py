"""Value systems: ordered values, most of them on Schwartz's motivational circle; one a module.

Each module files one `ValueSystem` under kind `values`, and `VALUES[name]` gives it back. A system
resolves the names of its values, published spellings, and the names of finer systems, which fold
into their parent. It never resolves a coarser name, which would be a guess.
"""

from feature_store import registry
from feature_store.records import ValueSystem
from feature_store.registry import Registry

VALUES: Registry[ValueSystem] = registry.of("values")
"""The value systems by name."""
