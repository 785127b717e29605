"""Six moral foundations (Haidt & Joseph 2004; Graham et al. 2013).

Liberty is that of Iyer et al. (2012); the definitions are in our own words.

1. Care, fairness, loyalty, authority, sanctity and liberty, in the order in which they are usually
   listed.
2. The published pairs ("care/harm") and the older names (purity, ingroup) are aliases.
3. The theory has no circle: `circular` is false. The angles are even steps that order the
   foundations in figures; distances are not known, and nothing that needs them (leakage by place,
   the fit of a circle) is computed.

Left out: what could be borrowed from the circle. Which foundations go together is a finding about
people, not part of the theory.
"""

import math

from feature_store.records import Value, ValueSystem
from feature_store.registry import register

# id, definition, other names
_SIX = (
    ("care", "Kindness and protection from harm for those who suffer.", "care-harm harm harm-care"),
    (
        "fairness",
        "Justice, equal rights and reciprocity.",
        "fairness-cheating fairness-reciprocity cheating",
    ),
    (
        "loyalty",
        "Standing by one's group and making sacrifices for it.",
        "loyalty-betrayal ingroup ingroup-loyalty betrayal",
    ),
    (
        "authority",
        "Respect for leaders, traditions and the duties of one's position.",
        "authority-subversion authority-respect subversion",
    ),
    (
        "sanctity",
        "Purity of body and soul, and disgust at what degrades them.",
        "sanctity-degradation purity purity-sanctity degradation",
    ),
    (
        "liberty",
        "Freedom from domination and from those who bully.",
        "liberty-oppression oppression",
    ),
)

SYSTEM = register("values", "moral-foundations")(
    ValueSystem(
        id="moral-foundations",
        values=tuple(
            Value(
                id=id,
                name=id.capitalize(),
                angle=2 * math.pi * step / len(_SIX),
                definition=definition,
                parent="",
            )
            for step, (id, definition, _) in enumerate(_SIX)
        ),
        source=(
            "Graham, J. et al. (2013). Moral Foundations Theory: the pragmatic validity of moral"
            " pluralism. Advances in Experimental Social Psychology 47, 55-130."
        ),
        aliases=tuple((other, id) for id, _, others in _SIX for other in others.split()),
        circular=False,
    )
)
