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
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from feature_store.progress import silent
from feature_store.records import Instrument, Item, ValueSystem
from workbench.llm import Judge
from workbench.measuring.administer import Elicitation, administer
from workbench.measuring.questions import Question, questions
from workbench.sweeps import ratings
from workbench.sweeps.texts import losses
from workbench.systems.adaem import WORDINGS
from workbench.systems.adaem.classifiers import OpinionClassifier
from workbench.systems.adaem.divergence import distribution
from workbench.systems.adaem.population import Population
from workbench.systems.adaem.responses import Coherence, Opinion

if TYPE_CHECKING:
    from sae_training.engine.model import Model


@dataclass(frozen=True, eq=False)
class ReadQuestion:
    """A question with the opinions of all members on it, and what a classifier read in them."""

    text: str
    """The question."""
    opinions: tuple[Opinion, ...]
    """Of all members, member by member."""
    held: Float[np.ndarray, "opinion value"]
    """1: held, 0: not, NaN in the whole row where the opinion does not count."""
    coherence: Float[np.ndarray, " opinion"]
    """Coherence of each opinion [0 to 1]; NaN where it does not count or the pair is longer than
    the model that rates it reads."""
    outcome: Float[np.ndarray, " outcome"]
    """What the question itself holds, `none` last; NaN where it could not be read."""

    @property
    def member(self) -> np.ndarray:
        """Number each opinion's member."""
        return np.array([opinion.member for opinion in self.opinions], int)

    def by_member(self, members: int) -> Float[np.ndarray, "member place value"]:
        """Stack `held` member by member; each member has as many opinions."""
        return self.held.reshape(members, -1, self.held.shape[1])


@dataclass(frozen=True)
class Asker:
    """Asks a population for opinions and has them read."""

    population: Population
    """The members that are asked."""
    classifier: OpinionClassifier
    """Says which values an opinion holds."""
    coherence: Coherence
    """What stands in for coherence."""
    system: ValueSystem
    """The values."""
    temperature: float
    """Sampling temperature."""
    new_tokens: int
    """Longest opinion [tokens]."""

    def ask(self, texts: Sequence[str], n: int, seed: int) -> list[ReadQuestion]:
        """Ask every member for `n` opinions on every question, and read them.

        Opinion k of member m on question q is drawn with `seed + (q * members + m) * n + k`.
        """
        if not texts:
            return []
        opinions: list[list[Opinion]] = [[] for _ in texts]
        size = len(self.population.members)
        for m, member in enumerate(self.population.members):
            requests: list[Question] = []
            for number, text in enumerate(texts):
                first = seed + (number * size + m) * n
                requests += questions(
                    self._instrument(number, text),
                    [""],
                    (self.wording,),
                    range(first, first + n),
                    member.persona,
                )
            responses = administer(
                self.population.respondents[m],
                self._instrument(0, texts[0]),
                requests,
                member.steering.name,
                silent,
                elicitation=Elicitation(
                    mode="generate", temperature=self.temperature, new_tokens=self.new_tokens
                ),
            )
            for request, response in zip(requests, responses, strict=True):
                opinions[int(request.item.id)].append(
                    Opinion(member=m, text=response.text, status=response.status, seed=request.seed)
                )
        return self._read(texts, opinions)

    @property
    def wording(self) -> str:
        """Name the wording: the organism goes on where a question ends, others give an opinion."""
        return WORDINGS[0][0] if self.population.is_organism else WORDINGS[1][0]

    def _instrument(self, number: int, text: str) -> Instrument:
        """Put one question as an instrument of one item."""
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

    def _read(
        self, texts: Sequence[str], opinions: Sequence[Sequence[Opinion]]
    ) -> list[ReadQuestion]:
        """Have all opinions read at once, and the questions too."""
        flat = [opinion for of_question in opinions for opinion in of_question]
        question = [text for text, members in zip(texts, opinions, strict=True) for _ in members]
        parsed = [k for k, opinion in enumerate(flat) if opinion.status == "parsed"]
        held = np.full((len(flat), len(self.system.ids)), np.nan)
        coherence = np.full(len(flat), np.nan)
        if parsed:
            parsed_texts = [flat[k].text for k in parsed]
            held[parsed] = self.classifier.read(parsed_texts)
            coherence[parsed] = self.coherence.rate([question[k] for k in parsed], parsed_texts)
        is_read = np.isfinite(held).all(1)
        held_by_question = self.classifier.read(list(texts))
        read = []
        start = 0
        for number, members in enumerate(opinions):
            part = slice(start, start + len(members))
            read.append(
                ReadQuestion(
                    text=texts[number],
                    opinions=tuple(map(_marked, members, is_read[part].tolist())),
                    held=held[part],
                    coherence=coherence[part],
                    outcome=distribution(held_by_question[number : number + 1]),
                )
            )
            start += len(members)
        return read


def _marked(opinion: Opinion, is_read: bool) -> Opinion:
    """Call an opinion unparsed that the classifier could not read."""
    if is_read or opinion.status != "parsed":
        return opinion
    return replace(opinion, status="unparsed")


def by_model(model: "Model") -> Coherence:
    """Rate coherence by the probability per token of an opinion after its question.

    The model is unsteered; a pair longer than it reads gets NaN.
    """

    def rate(asked: Sequence[str], texts: Sequence[str]) -> Float[np.ndarray, " opinion"]:
        """Compute exp(-loss) of each opinion after its question [0 to 1]."""
        before = [len(ids) for ids in model.tokenize(list(asked), prompt=True)]
        after = [len(ids) for ids in model.tokenize(list(texts), prompt=True)]
        coherence = np.full(len(texts), np.nan)
        fits = [k for k in range(len(texts)) if before[k] + after[k] <= model.context]
        if fits:
            loss = losses(model, [asked[k] for k in fits], [texts[k] for k in fits])
            coherence[fits] = np.exp(-loss)
        return coherence

    return Coherence(f"probability per token under {model.identity}", rate)


def by_judge(judge: Judge) -> Coherence:
    """Rate coherence by a judge: whether the opinion is about the question, 0, 1/2 or 1."""

    def rate(asked: Sequence[str], texts: Sequence[str]) -> Float[np.ndarray, " opinion"]:
        """Ask the judge about each pair; NaN where its verdict could not be read."""
        requests = [
            ratings.QUESTIONS[1].format(prompt=question, text=text)
            for question, text in zip(asked, texts, strict=True)
        ]
        coherence = np.full(len(texts), np.nan)
        for k, verdict in enumerate(judge.judge(requests, ratings.OPTIONS)):
            if verdict.status == "parsed":
                coherence[k] = ratings.OPTIONS.index(verdict.choice) / 2
        return coherence

    return Coherence(f"judged by {judge.name}", rate)


def rows(read: ReadQuestion, values: Sequence[str]) -> list[dict[str, Any]]:
    """Write the opinions on a question as plain rows; `from_rows` reads them back."""
    return [
        {
            "question": read.text,
            "asked": read.outcome.tolist(),
            "member": opinion.member,
            "text": opinion.text,
            "status": opinion.status,
            "seed": opinion.seed,
            "held": [value for value, mark in zip(values, marks, strict=True) if mark == 1],
            "coherence": float(coherence),
        }
        for opinion, marks, coherence in zip(read.opinions, read.held, read.coherence, strict=True)
    ]


def from_rows(opinions: Sequence[dict[str, Any]], values: Sequence[str]) -> list[ReadQuestion]:
    """Read questions with their opinions back from rows, in the order of the rows."""
    by_question: dict[str, list[dict[str, Any]]] = {}
    for row in opinions:
        by_question.setdefault(row["question"], []).append(row)
    return [
        ReadQuestion(
            text=question,
            opinions=tuple(map(_opinion, members)),
            held=np.array([_marks(row, values) for row in members]),
            coherence=np.array([row["coherence"] for row in members]),
            outcome=np.array(members[0]["asked"]),
        )
        for question, members in by_question.items()
    ]


def _opinion(row: dict[str, Any]) -> Opinion:
    return Opinion(member=row["member"], text=row["text"], status=row["status"], seed=row["seed"])


def _marks(row: dict[str, Any], values: Sequence[str]) -> list[float]:
    """Mark the values that an opinion holds; NaN for all where it does not count."""
    if row["status"] != "parsed":
        return [float("nan")] * len(values)
    return [float(value in row["held"]) for value in values]
