"""Schwartz's nineteen refined values (Schwartz et al. 2012; definitions in our own words).

1. Nineteen equal steps around the same circle, counter-clockwise from Self-Direction of thought.
2. `parent` links each to one of the ten as the PVQ-RR manual folds them: Humility into Tradition.
   *Face* is used in none of the ten, so its parent is empty.
3. Names of the ten that were split ("Power") are not resolved: which half is meant cannot be known.

Left out: Touché's `Universalism: objectivity`, which is not among the nineteen.
"""

import math

from feature_store.records import Value, ValueSystem
from feature_store.registry import register

# id, name, parent, definition
_NINETEEN = (
    (
        "self-direction-thought",
        "Self-Direction: thought",
        "self-direction",
        "Freedom to form one's own ideas and abilities.",
    ),
    (
        "self-direction-action",
        "Self-Direction: action",
        "self-direction",
        "Freedom to decide what one does.",
    ),
    ("stimulation", "Stimulation", "stimulation", "Excitement, novelty and change."),
    ("hedonism", "Hedonism", "hedonism", "Pleasure and the gratification of one's senses."),
    (
        "achievement",
        "Achievement",
        "achievement",
        "Success by the standards that others recognise.",
    ),
    ("power-dominance", "Power: dominance", "power", "Power through control over people."),
    ("power-resources", "Power: resources", "power", "Power through control of money and things."),
    ("face", "Face", "", "Keeping one's public image and avoiding humiliation."),
    ("security-personal", "Security: personal", "security", "Safety in one's own surroundings."),
    (
        "security-societal",
        "Security: societal",
        "security",
        "Safety and stability of the wider society.",
    ),
    (
        "tradition",
        "Tradition",
        "tradition",
        "Keeping up what one's culture, family or religion hands down.",
    ),
    (
        "conformity-rules",
        "Conformity: rules",
        "conformity",
        "Compliance with rules, laws and duties.",
    ),
    (
        "conformity-interpersonal",
        "Conformity: interpersonal",
        "conformity",
        "Avoiding what would upset or harm others.",
    ),
    (
        "humility",
        "Humility",
        "tradition",
        "Recognising how small one is in the larger scheme of things.",
    ),
    (
        "benevolence-caring",
        "Benevolence: caring",
        "benevolence",
        "Devotion to the welfare of one's own people.",
    ),
    (
        "benevolence-dependability",
        "Benevolence: dependability",
        "benevolence",
        "Being someone whom one's own people can rely on.",
    ),
    (
        "universalism-concern",
        "Universalism: concern",
        "universalism",
        "Equality, justice and protection for everyone.",
    ),
    (
        "universalism-nature",
        "Universalism: nature",
        "universalism",
        "Preservation of the natural world.",
    ),
    (
        "universalism-tolerance",
        "Universalism: tolerance",
        "universalism",
        "Acceptance of those who differ from oneself.",
    ),
)

SYSTEM = register("values", "schwartz19")(
    ValueSystem(
        id="schwartz19",
        values=tuple(
            Value(
                id=id,
                name=name,
                angle=2 * math.pi * step / len(_NINETEEN),
                definition=definition,
                parent=parent,
            )
            for step, (id, name, parent, definition) in enumerate(_NINETEEN)
        ),
        source=(
            "Schwartz, S. H. et al. (2012). Refining the theory of basic individual values. "
            "Journal of Personality and Social Psychology 103, 663-688."
        ),
        aliases=(("benevolence-care", "benevolence-caring"),),
    )
)
