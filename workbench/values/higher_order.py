"""The four higher-order values that summarise Schwartz's circle (Schwartz 1992).

1. Two axes at right angles: Openness to Change against Conservation, Self-Enhancement against
   Self-Transcendence. Openness lies at the middle of its three members (40 degrees); the others
   follow in quarter turns.
2. Hedonism stands between Openness and Self-Enhancement; here it counts as Openness.
3. The ten, and the nineteen through them, are aliases. Face belongs to none of the ten and is not
   resolved.
"""

import math

from feature_store.records import Value, ValueSystem, normalise
from feature_store.registry import register

# name, definition, and the finer values that fold into it
_FOUR = (
    (
        "Openness to Change",
        "Independence of thought and action, and readiness for the new.",
        (
            "openness self-direction self-direction-thought self-direction-action selfdirection"
            " stimulation hedonism"
        ),
    ),
    (
        "Self-Enhancement",
        "One's own success and standing over others.",
        "achievement power power-dominance power-resources",
    ),
    (
        "Conservation",
        "Order, self-restraint and keeping things as they are.",
        (
            "security security-personal security-societal conformity conformity-rules"
            " conformity-interpersonal tradition humility"
        ),
    ),
    (
        "Self-Transcendence",
        "The welfare of others beyond one's own interests.",
        (
            "benevolence benevolence-caring benevolence-care benevolence-dependability universalism"
            " universalism-concern universalism-nature universalism-tolerance"
            " universalism-objectivity"
        ),
    ),
)

SYSTEM = register("values", "higher-order")(
    ValueSystem(
        id="higher-order",
        values=tuple(
            Value(
                id=normalise(name),
                name=name,
                angle=math.radians(40 + 90 * quarter),
                definition=definition,
                parent="",
            )
            for quarter, (name, definition, _) in enumerate(_FOUR)
        ),
        source=(
            "Schwartz, S. H. (1992). Universals in the content and structure of values. "
            "Advances in Experimental Social Psychology 25, 1-65."
        ),
        aliases=tuple(
            (finer, normalise(name)) for name, _, members in _FOUR for finer in members.split()
        ),
    )
)
