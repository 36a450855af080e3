"""Settings that a run chooses and holds by itself: `objective.margin=auto`, `objective.beta_neg=auto`, and whatever a new model needs.

An objective reads `controller.value` as it would read a number. The trainer shows every controller the scalars of every step, in order and
averaged over processes, and saves its state in each checkpoint; the laws know nothing of the trainer, of clocks or of processes.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from genzoo.duration import Duration
from genzoo.objective import Progress

EVERY = 10  # steps between decisions: the trainer has shown all scalars up to a multiple of it before the next step begins

HORIZON = 100  # steps that the running averages look back, exponentially
FIRST = 200  # steps that must have been seen before the first choice, where the warm-up is shorter
RATE = 0.25  # largest change of a value per decision, in natural logarithm: tenfold in 100 steps
DRIFT = 0.01  # change of the target per decision under pressure: fourfold in 1,390 steps
ARRIVED = 1e-9  # |ln(target / value)| that counts as none: rounding
BOUND = 4.0  # the target stays within this factor of the first choice


class Controller(Protocol):
    """One setting of an objective that moves during a run."""

    value: float

    def observe(self, at: Progress, scalars: Mapping[str, float]) -> str | None:
        """Takes one step's scalars, `panel/curve` by name; returns one line when something happened that a reader should know.

        Called once for every step, in order. `value` may change only when `at.step + 1` is a multiple of `EVERY`: scalars arrive late and
        by the clock, decisions must not.
        """
        ...

    def state(self) -> dict[str, float]:
        """Returns everything that later decisions depend on."""
        ...

    def load_state(self, state: Mapping[str, float]) -> None: ...


class Fixed:
    """A number that was given: it never moves."""

    def __init__(self, value: float):
        self.value = value

    def observe(self, at: Progress, scalars: Mapping[str, float]) -> None:
        return None

    def state(self) -> dict[str, float]:
        return {}

    def load_state(self, state: Mapping[str, float]) -> None:
        return None


@dataclass(frozen=True)
class Law:
    """How `Balance` chooses one setting. All of it is in terms of a level m in nats, the KL that generated images are pushed to."""

    name: str  # of the setting, for the log
    start: float  # m until the first choice
    first: Callable[[Mapping[str, float]], float]  # averages after the warm-up -> m
    pressure: Callable[[Mapping[str, float], float], int]  # averages, value -> +1: m is too low, -1: too high, 0: well
    setting: Callable[[float], float] = lambda level: level  # m -> the setting's value
    least: float = 0.0  # the setting never goes below


class Balance:
    """Chooses a setting once from what the warm-up shows, then holds it by slow, bounded feedback.

    With averages a_t = (1 - 1/HORIZON) a_(t-1) + (1/HORIZON) scalars_t, corrected for their start at zero, at every EVERY-th step:

    1. Before the first choice nothing moves. It falls on the last decision before the game begins (without a warm-up of FIRST steps, on the
       first one that has seen so many): m0 = law.first(a).
    2. Target: ln r <- clip(ln r + DRIFT * law.pressure(a, value), +-ln BOUND); the value aimed at is v* = law.setting(r * m0). r moves
       only once the value has arrived, so it cannot wind up, and HORIZON steps after a way of more than RATE, so it is not judged by its way.
    3. Value: ln v <- ln v + clip(ln v* - ln v, +-RATE).

    Why it is stable: (3) is a contraction, |ln v* - ln v| falls by RATE per decision to zero and never overshoots, from any start. (2) has a dead
    zone wherever pressure is 0, a loop gain of at most DRIFT per EVERY steps (the averages lag by HORIZON steps, in which the target moves by
    at most DRIFT * HORIZON / EVERY = 10%, so a dead zone wider than 10% cannot be jumped over), and saturates at BOUND, where it stays.

    Args:
        law: the setting's own part.
        warmup: how long the game has not begun; see `Progress.before`.
    """

    offset = 1.0  # factor put on the first choice's value, once: experiments start 10 times off with it

    def __init__(self, law: Law, warmup: Duration):
        self.law, self.warmup = law, warmup
        self.value = law.setting(law.start)
        self._averages = Averages()
        self._first: float | None = None
        self._log_ratio, self._told = 0.0, 0

    def observe(self, at: Progress, scalars: Mapping[str, float]) -> str | None:
        self._averages.add(scalars)
        if (at.step + 1) % EVERY:
            return None
        if self._first is None:
            begins = not replace(at, step=at.step + EVERY).before(self.warmup)  # before the next decision
            return self._choose() if begins and self._averages.steps >= FIRST else None
        return self._hold()

    def _choose(self) -> str:
        seen = self._averages.means()
        self._first = self.law.first(seen)
        self.value = max(self.law.least, self.law.setting(self._first) * self.offset)
        return (
            f"{self.law.name} = {self.value:.4g}, chosen for KL(real) {seen['kl/real']:.4g} +- {seen['spread/real']:.3g} nats "
            f"(mean and spread over images) of the last {HORIZON} steps"
        )

    def _hold(self) -> str | None:
        told = None
        if abs(self._gap()) > RATE:
            self._averages = Averages()  # what was seen on the way back says little of the value at its end
        seen, known = self._averages.means(), self._averages.steps >= HORIZON
        if known and abs(self._gap()) < ARRIVED and (pressure := self.law.pressure(seen, self.value)):
            limit = math.log(BOUND)
            self._log_ratio = min(limit, max(-limit, self._log_ratio + DRIFT * pressure))
            if pressure != self._told:  # one line per change of direction
                curves = ", ".join(f"{name} {seen[name]:.3g}" for name in seen if name.startswith(("kl/", "spread/", "hinge/", "expelbo/")))
                told = (
                    f"{self.law.name} moves from {self.value:.4g}: its level in nats is too {'low' if pressure > 0 else 'high'} ({curves})"
                )
                self._told = pressure
        self.value *= math.exp(min(RATE, max(-RATE, self._gap())))
        return told

    def _gap(self) -> float:
        """ln of target over value."""
        assert self._first is not None
        return math.log(self.law.setting(self._first * math.exp(self._log_ratio)) / self.value)

    def state(self) -> dict[str, float]:
        chosen = {} if self._first is None else {"first": self._first}
        return {"value": self.value, "log_ratio": self._log_ratio, "told": self._told, **chosen} | self._averages.state()

    def load_state(self, state: Mapping[str, float]) -> None:
        self.value, self._log_ratio, self._told = state["value"], state["log_ratio"], int(state["told"])
        self._first = state.get("first")
        self._averages.load_state(state)


class Averages:
    """Exponential averages over HORIZON steps of scalars by name; one that is no longer reported keeps its last average."""

    def __init__(self) -> None:
        self.steps = 0
        self._sums: dict[str, float] = {}
        self._weights: dict[str, float] = {}

    def add(self, scalars: Mapping[str, float]) -> None:
        self.steps += 1
        for name, value in scalars.items():
            for table, new in ((self._sums, value), (self._weights, 1.0)):
                table[name] = table.get(name, 0.0) + (new - table.get(name, 0.0)) / HORIZON

    def means(self) -> dict[str, float]:
        return {name: total / self._weights[name] for name, total in self._sums.items()}

    def state(self) -> dict[str, float]:
        sums = {f"sum:{name}": value for name, value in self._sums.items()}
        return {"steps": self.steps} | sums | {f"weight:{name}": value for name, value in self._weights.items()}

    def load_state(self, state: Mapping[str, float]) -> None:
        self.steps = int(state["steps"])
        for table, prefix in ((self._sums, "sum:"), (self._weights, "weight:")):
            table.clear()
            table |= {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def hinge_margin(z_dim: int, warmup: Duration) -> Balance:
    """`objective.margin=auto` of a hinge [m - KL]^+: IntroVAE's rule, m above the KL of real images most of the time.

    With mu and sigma, mean and standard deviation over real images of their KL to the prior, a headroom d = max(sigma, mu / 4, sqrt(z_dim / 2)), and
    h, the share of generated images under m:

    - first: m0 = mu + d. Near above mu, as in the paper's Figure 5: a margin far above lets no generated image off the hinge, which then
      bounds nothing, and was worse in 2-D (benchmarks/auto). The last term of d is the spread that the KL of real images has once their latents
      fill the prior (half a chi-square of z_dim degrees), for a posterior that has not woken up yet.
    - too low: m < mu + d / 2, or h < 0.1 (the hinge is off: the encoder gets no adversarial signal).
    - too high: m > mu + 2 d and h > 0.9 (a hinge that never lets go).

    The dead zone is at least a factor of 1.33 wide. Reads `kl/real`, `spread/real` and `hinge/active`.
    """

    def headroom(seen: Mapping[str, float]) -> float:
        return max(seen["spread/real"], seen["kl/real"] / 4, math.sqrt(z_dim / 2))

    def first(seen: Mapping[str, float]) -> float:
        return seen["kl/real"] + headroom(seen)

    def pressure(seen: Mapping[str, float], m: float) -> int:
        above, active = m - seen["kl/real"], seen.get("hinge/active", 0.5)
        if above < headroom(seen) / 2 or active < 0.1:
            return 1
        return -1 if above > 2 * headroom(seen) and active > 0.9 else 0

    return Balance(Law("margin", z_dim / 2, first, pressure), warmup)


def negative_weight(z_dim: int, scale: float, beta_kl: float, warmup: Duration) -> Balance:
    """`objective.beta_neg=auto` of Soft-IntroVAE: the weight whose exponential balances at the KL of real images.

    The encoder pulls a real image's KL down with the force s beta_kl, and pushes a generated one's up with s beta_neg e, where
    e = exp(-2 s (beta_rec L_r + beta_neg KL)). The two are equal, L_r left out, at the soft margin

        m(beta_neg) = ln(beta_neg / beta_kl) / (2 s beta_neg),

    which is highest, 1 / (2 s e beta_kl), at beta_neg = e beta_kl (e = 2.718...) and falls beyond. A larger weight makes the exponential
    underflow earlier, with a smaller one than that m falls again, to nothing at beta_kl. So beta_neg solves m(beta_neg) = level on the falling
    branch, is e beta_kl where no weight reaches the level, and never less. With averages over HORIZON steps:

    - first: level = mu + max(2 sigma, sqrt(z_dim / 2)), of the KL of real images in the warm-up (`hinge_margin` says why the root). It is not
      tracked: the game draws the KL of real images to m itself.
    - too low: KL(sample) < 0.9 KL(real), against the authors' rule; or push beta_neg e < 0.1 beta_kl, the exponential has underflowed.
    - too high: KL(sample) > 3 KL(real) while the push exceeds the pull.

    Reads `kl/real`, `spread/real`, `kl/sample` and `expelbo/sample`.
    """

    def first(seen: Mapping[str, float]) -> float:
        return seen["kl/real"] + max(2 * seen["spread/real"], math.sqrt(z_dim / 2))

    def pressure(seen: Mapping[str, float], beta_neg: float) -> int:
        if "kl/sample" not in seen:
            return 0
        real, sample, push = seen["kl/real"], seen["kl/sample"], beta_neg * seen["expelbo/sample"] / beta_kl
        if sample < 0.9 * real or push < 0.1:
            return 1
        return -1 if sample > 3 * real and push > 1 else 0

    return Balance(Law("beta_neg", z_dim / 2, first, pressure, lambda level: soft_weight(level, scale, beta_kl), math.e * beta_kl), warmup)


def soft_weight(level: float, scale: float, beta_kl: float) -> float:
    """Solves ln(b / beta_kl) = 2 scale b level for b >= e beta_kl; e beta_kl where there is no solution.

    With y = ln(b / beta_kl) and a = 2 scale beta_kl level it is y = a exp(y), y >= 1: ln y - ln a - y falls from 1 on, and is negative
    at y = 1 - 2 ln a.
    """
    log_a = math.log(2 * scale * beta_kl * level)
    low, high = 1.0, max(1.0, 1 - 2 * log_a)
    for _ in range(60):
        y = (low + high) / 2
        low, high = (y, high) if math.log(y) - log_a - y > 0 else (low, y)
    return beta_kl * math.exp(low)
