"""Schwartz's ten basic values on the motivational circle (Schwartz 1992).

The definitions are in our own words.

1. Nine wedges of 40 degrees in the published order. Tradition and Conformity share one wedge
   (Tradition lies outside Conformity), so both have the same angle and a distance of 0.
2. The nineteen refined values fold into the ten as the PVQ-RR manual does it: Humility belongs to
   Tradition. *Face* is used in none of the ten and is not resolved; leave such a column out.
3. `Universalism: objectivity`, the twentieth category of Touché's value-labelled arguments, folds
   into Universalism.

Left out: measured positions. Angles are the theory's equal steps, not a scaling of anyone's data.
"""

import math

from feature_store.records import Value, ValueSystem
from feature_store.registry import register

# id, name, wedge, parent, definition
_TEN = (
    (
        "self-direction",
        "Self-Direction",
        0,
        "openness-to-change",
        "Thinking for oneself and choosing, making and exploring on one's own terms.",
    ),
    (
        "stimulation",
        "Stimulation",
        1,
        "openness-to-change",
        "Excitement, novelty and challenge in life.",
    ),
    (
        "hedonism",
        "Hedonism",
        2,
        "openness-to-change",
        "Pleasure and the gratification of one's own senses.",
    ),
    (
        "achievement",
        "Achievement",
        3,
        "self-enhancement",
        "Personal success, shown by competence that others recognise.",
    ),
    (
        "power",
        "Power",
        4,
        "self-enhancement",
        "Standing over others, and control of people and resources.",
    ),
    (
        "security",
        "Security",
        5,
        "conservation",
        "Safety and stability of oneself, of close relations and of society.",
    ),
    (
        "conformity",
        "Conformity",
        6,
        "conservation",
        "Holding back what would upset or harm others or break what is expected.",
    ),
    (
        "tradition",
        "Tradition",
        6,
        "conservation",
        (
            "Respect for, and commitment to, the customs and ideas that one's culture or religion"
            " hands down."
        ),
    ),
    (
        "benevolence",
        "Benevolence",
        7,
        "self-transcendence",
        "Keeping up and improving the well-being of the people one is close to.",
    ),
    (
        "universalism",
        "Universalism",
        8,
        "self-transcendence",
        "Understanding, tolerance and protection for all people and for nature.",
    ),
)

_FINER = (
    ("self-direction-thought", "self-direction"),
    ("self-direction-action", "self-direction"),
    ("power-dominance", "power"),
    ("power-resources", "power"),
    ("security-personal", "security"),
    ("security-societal", "security"),
    ("conformity-rules", "conformity"),
    ("conformity-interpersonal", "conformity"),
    ("humility", "tradition"),
    ("benevolence-caring", "benevolence"),
    ("benevolence-care", "benevolence"),
    ("benevolence-dependability", "benevolence"),
    ("universalism-concern", "universalism"),
    ("universalism-nature", "universalism"),
    ("universalism-tolerance", "universalism"),
    ("universalism-objectivity", "universalism"),
    ("selfdirection", "self-direction"),
)

SYSTEM = register("values", "schwartz10")(
    ValueSystem(
        id="schwartz10",
        values=tuple(
            Value(
                id=id,
                name=name,
                angle=2 * math.pi * wedge / 9,
                definition=definition,
                parent=parent,
            )
            for id, name, wedge, parent, definition in _TEN
        ),
        source=(
            "Schwartz, S. H. (1992). Universals in the content and structure of values. "
            "Advances in Experimental Social Psychology 25, 1-65."
        ),
        aliases=_FINER,
    )
)
