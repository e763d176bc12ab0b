"""From a round's checked updates to the plan by which they are combined: screening, clipping, mixing, the rule.

Decides their order, each optional but the rule: who is far too long is refused; who is too long is clipped; the rest
are mixed with their neighbours; then the rule sees them. For rules that sum, clipping and mixing only change the
weights, so that the checkpoint's weights tell everything; for others the rows are clipped and mixed as they are read.
What a clipped update lost counts as a difference of zero, not as somebody else's.
"""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from aggregation.rules.gram import Gram, gram_of
from aggregation.rules.mixing import Mixer, nearest, unmixed
from aggregation.rules.rule import Candidate, Plan, Rows, Rule, Slab, SlabCombiner, Spool
from aggregation.rules.screening import ClippedRows, clip_factors, clipped, clipped_away, outliers
from aggregation.rules.sums import Shares, SumRule, sum_of
from aggregation.settings import CombineSettings
from aggregation.tensors.flat import F32, FlatLayout
from aggregation.updates import Refusal

Prepare = Callable[[Slab, Rows], Rows]


def plan_round(layout: FlatLayout, candidates: Sequence[Candidate], spool: Spool, settings: CombineSettings) -> Plan:
    """The plan for all `candidates`, of which there is at least one, sorted by name."""
    refused = outliers(candidates, settings.screen_factor)
    kept = [index for index in range(len(candidates)) if index not in refused]
    factors = clip_factors([candidates[index] for index in kept], settings.clip)
    refused |= {index: clipped_away(candidates[index]) for index, by in zip(kept, factors, strict=True) if not by}
    if refused:
        kept = [index for index in kept if index not in refused]
        factors = [factor for factor in factors if factor]
        spool = _Prepared(spool, lambda _, rows: _Chosen(rows, kept))
    work = _Work(layout, [candidates[index] for index in kept], factors, spool, settings.mix_share)
    plan = work.plan(settings.make_rule())
    return _Among(plan, len(candidates), kept, refused) if refused else plan


class _Work:
    """What is left of a round after screening."""

    def __init__(
        self,
        layout: FlatLayout,
        candidates: Sequence[Candidate],
        factors: Sequence[Fraction],
        spool: Spool,
        mix_share: float | None,
    ) -> None:
        self._layout = layout
        self._candidates = candidates
        self._factors = factors
        self._clips = any(factor != 1 for factor in factors)
        self._spool = spool
        self._mix_share = mix_share

    def plan(self, rule: Rule) -> Plan:
        return self._plan_of_a_sum(rule) if isinstance(rule, SumRule) else self._plan_of_rows(rule)

    def _gram(self) -> Gram:
        gram = gram_of(len(self._candidates), self._spool)
        return gram.scaled(self._factors) if self._clips else gram

    def _plan_of_a_sum(self, rule: SumRule) -> Plan:
        if self._mix_share is not None:
            gram = self._gram()
            mixes = nearest(gram, self._mix_share)
            wanted = rule.shares(self._candidates, gram.mixed(mixes) if rule.needs_gram else None)
            wanted = unmixed(wanted, mixes)
        else:
            wanted = rule.shares(self._candidates, self._gram() if rule.needs_gram else None)
        return sum_of(self._layout, self._candidates, self._clipped(wanted))

    def _clipped(self, wanted: Shares) -> Shares:
        """The shares times the factors; what they are divided by stays."""
        if not self._clips:
            return wanted
        total = sum(wanted.shares) if wanted.total is None else wanted.total
        shares = tuple(share * factor for share, factor in zip(wanted.shares, self._factors, strict=True))
        return Shares(shares, total, wanted.aside, wanted.stats, rounded_down=True)

    def _plan_of_rows(self, rule: Rule) -> Plan:
        mixes = nearest(self._gram(), self._mix_share) if self._mix_share is not None else None
        if not (self._clips or mixes):
            return rule.plan(self._layout, self._candidates, self._spool)
        candidates = [clipped(each, factor) for each, factor in zip(self._candidates, self._factors, strict=True)]

        def make() -> Prepare:
            mixer = Mixer(self._layout, candidates, mixes) if mixes else None

            def prepare(slab: Slab, rows: Rows) -> Rows:
                rows = ClippedRows(rows, self._factors) if self._clips else rows
                return mixer.mixed(slab, rows) if mixer else rows

            return prepare

        plan = rule.plan(self._layout, candidates, _Prepared(self._spool, make()))
        return _OfPrepared(plan, make)


class _Chosen:
    """Some of the rows."""

    def __init__(self, rows: Rows, kept: Sequence[int]) -> None:
        self._rows = rows
        self._kept = kept

    def __len__(self) -> int:
        return len(self._kept)

    def read(self, index: int, out: F32) -> F32:
        return self._rows.read(self._kept[index], out)


class _Prepared:
    """A spool whose rows are something made of another's."""

    def __init__(self, spool: Spool, prepare: Prepare) -> None:
        self._spool = spool
        self._prepare = prepare

    def slabs(self, elements: int) -> Sequence[Slab]:
        return self._spool.slabs(elements)

    def rows(self, slab: Slab) -> Rows:
        return self._prepare(slab, self._spool.rows(slab))


class _OfPrepared(Plan):
    """A plan over rows that are prepared first."""

    def __init__(self, plan: Plan, make: Callable[[], Prepare]) -> None:
        self.weights, self.exponents, self.refused = plan.weights, plan.exponents, plan.refused
        self.stats, self.slab_elements = plan.stats, plan.slab_elements
        self._plan = plan
        self._make = make

    def combiner(self) -> SlabCombiner:
        combine, prepare = self._plan.combiner(), self._make()
        return lambda slab, rows, out: combine(slab, prepare(slab, rows), out)


class _Among(_OfPrepared):
    """A plan for some candidates, told of all `count`: the others are refused."""

    def __init__(self, plan: Plan, count: int, kept: Sequence[int], refused: Mapping[int, Refusal]) -> None:
        super().__init__(plan, lambda: lambda _, rows: _Chosen(rows, kept))
        weights = dict(zip(kept, plan.weights, strict=True))
        self.weights = tuple(weights.get(index, 0) for index in range(count))
        self.refused = (*plan.refused, *refused.values())
