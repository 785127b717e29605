"""Ask a population for opinions and have them read: several a member and question, each with its
values and its coherence.

1. Every member gives `n` opinions on every question, sampled; question, member and opinion have a
   seed of their own, so that members share no luck.
2. The classifier reads all of them at once, and the questions too: what a question itself holds.
3. Coherence: where a model runs here, the probability per token of the opinion after its question
   under the unsteered model, exp(-loss); else a judge. A pair longer than that model reads has
   none.
4. A refusal, an empty opinion, one that the classifier could not read and a question too long for a
   member stay, with their status, and count nowhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from feature_store.progress import silent
from feature_store.records import Instrument, Item, ValueSystem
from workbench.llm import Judge
from workbench.measuring.administer import Elicitation, administer
from workbench.measuring.questions import questions
from workbench.sweeps import ratings
from workbench.sweeps.texts import losses
from workbench.systems.adaem import WORDINGS
from workbench.systems.adaem.classifiers import Classifier
from workbench.systems.adaem.divergence import distribution
from workbench.systems.adaem.population import Population
from workbench.systems.adaem.responses import Coherence, Opinion

if TYPE_CHECKING:
    from sae_training.engine.model import Model


@dataclass(frozen=True, eq=False)
class Read:
    text: str
    """The question."""
    opinions: tuple[Opinion, ...]
    """Of all members, member by member."""
    held: Float[np.ndarray, "opinion value"]
    """1: held, 0: not, NaN in the whole row where the opinion does not count."""
    coherence: Float[np.ndarray, " opinion"]
    """Coherence of each opinion [0 to 1]; NaN where it does not count or the pair is longer than
    the model that rates it reads."""
    asked: Float[np.ndarray, " outcome"]
    """What the question itself holds, `none` last; NaN where it could not be read."""

    @property
    def member(self) -> np.ndarray:
        """Number of each opinion's member."""
        return np.array([one.member for one in self.opinions], int)

    def by_member(self, members: int) -> Float[np.ndarray, "member place value"]:
        """`held`, member by member; each has as many opinions."""
        return self.held.reshape(members, -1, self.held.shape[1])


@dataclass(frozen=True)
class Asker:
    population: Population
    """Who is asked."""
    classifier: Classifier
    """Who reads."""
    coherence: Coherence
    """What stands in for coherence."""
    system: ValueSystem
    """The values."""
    temperature: float
    """Sampling temperature."""
    new_tokens: int
    """Longest opinion [tokens]."""

    def ask(self, texts: Sequence[str], n: int, seed: int) -> list[Read]:
        """`n` opinions of every member on every question; opinion k of member m on question q is
        drawn with `seed + (q * members + m) * n + k`.
        """
        if not texts:
            return []
        made: list[list[Opinion]] = [[] for _ in texts]
        size = len(self.population.members)
        for m, (member, respondent) in enumerate(
            zip(self.population.members, self.population.respondents, strict=True)
        ):
            asked = [
                q
                for k, text in enumerate(texts)
                for q in questions(
                    self._one(k, text),
                    [""],
                    (self.wording,),
                    range(seed + (k * size + m) * n, seed + (k * size + m + 1) * n),
                    member.persona,
                )
            ]
            told = administer(
                respondent,
                self._one(0, texts[0]),
                asked,
                member.steering.name,
                silent,
                elicitation=Elicitation(
                    mode="generate", temperature=self.temperature, new_tokens=self.new_tokens
                ),
            )
            for q, r in zip(asked, told, strict=True):
                made[int(q.item.id)].append(
                    Opinion(member=m, text=r.text, status=r.status, seed=q.seed)
                )
        return self._read(texts, made)

    @property
    def wording(self) -> str:
        """The organism goes on where a question ends, others are asked for an opinion."""
        return WORDINGS[0][0] if self.population.own else WORDINGS[1][0]

    def _one(self, number: int, text: str) -> Instrument:
        return Instrument(
            id="adaem",
            title="",
            items=(Item(id=str(number), text=text, value=""),),
            options=(),
            wordings=WORDINGS,
            system=self.system.id,
            source="",
            licence="",
            answer="text",
        )

    def _read(self, texts: Sequence[str], made: list[list[Opinion]]) -> list[Read]:
        flat = [(text, one) for text, some in zip(texts, made, strict=True) for one in some]
        parsed = [k for k, (_, one) in enumerate(flat) if one.status == "parsed"]
        held, coherence = (
            np.full((len(flat), len(self.system.ids)), np.nan),
            np.full(len(flat), np.nan),
        )
        if parsed:
            held[parsed] = self.classifier.read([flat[k][1].text for k in parsed])
            coherence[parsed] = self.coherence.rate(
                [flat[k][0] for k in parsed], [flat[k][1].text for k in parsed]
            )
        read = np.isfinite(held).all(1)
        own, found, start = self.classifier.read(list(texts)), [], 0
        for number, (text, some) in enumerate(zip(texts, made, strict=True)):
            part = slice(start, start + len(some))
            opinions = tuple(
                Opinion(
                    member=one.member,
                    text=one.text,
                    status=one.status if ok or one.status != "parsed" else "unparsed",
                    seed=one.seed,
                )
                for one, ok in zip(some, read[part], strict=True)
            )
            found.append(
                Read(
                    text=text,
                    opinions=opinions,
                    held=held[part],
                    coherence=coherence[part],
                    asked=distribution(own[number : number + 1]),
                )
            )
            start += len(some)
        return found


def by_model(model: "Model") -> Coherence:
    """The probability per token of an opinion after its question, under the model as it is."""

    def rate(asked: Sequence[str], texts: Sequence[str]) -> Float[np.ndarray, " opinion"]:
        before, after = (
            list(map(len, model.tokenize(list(some), prompt=True))) for some in (asked, texts)
        )
        found = np.full(len(texts), np.nan)
        short = [
            k for k, (a, b) in enumerate(zip(before, after, strict=True)) if a + b <= model.context
        ]
        if short:
            found[short] = np.exp(
                -losses(model, [asked[k] for k in short], [texts[k] for k in short])
            )
        return found

    return Coherence(f"probability per token under {model.name}@{model.revision[:12]}", rate)


def by_judge(judge: Judge) -> Coherence:
    """Whether a judge finds that the opinion is about the question: 0, 1/2 or 1."""

    def rate(asked: Sequence[str], texts: Sequence[str]) -> Float[np.ndarray, " opinion"]:
        told = [
            ratings.QUESTIONS[1].format(prompt=question, text=text)
            for question, text in zip(asked, texts, strict=True)
        ]
        return np.array(
            [
                ratings.OPTIONS.index(v.choice) / 2 if v.status == "parsed" else np.nan
                for v in judge.judge(told, ratings.OPTIONS)
            ]
        )

    return Coherence(f"judged by {judge.name}", rate)


def rows(read: Read, values: Sequence[str]) -> list[dict[str, Any]]:
    """The opinions as plain rows; `from_rows` reads them back."""
    return [
        {
            "question": read.text,
            "asked": read.asked.tolist(),
            "member": one.member,
            "text": one.text,
            "status": one.status,
            "seed": one.seed,
            "held": [v for v, mark in zip(values, marks, strict=True) if mark == 1],
            "coherence": float(c),
        }
        for one, marks, c in zip(read.opinions, read.held, read.coherence, strict=True)
    ]


def from_rows(told: Sequence[dict[str, Any]], values: Sequence[str]) -> list[Read]:
    """Questions with their opinions, in the order of the rows."""
    found = []
    for question in dict.fromkeys(row["question"] for row in told):
        own = [row for row in told if row["question"] == question]
        held = [
            [float(v in row["held"]) if row["status"] == "parsed" else np.nan for v in values]
            for row in own
        ]
        opinions = tuple(
            Opinion(member=row["member"], text=row["text"], status=row["status"], seed=row["seed"])
            for row in own
        )
        found.append(
            Read(
                text=question,
                opinions=opinions,
                held=np.array(held),
                coherence=np.array([row["coherence"] for row in own]),
                asked=np.array(own[0]["asked"]),
            )
        )
    return found
