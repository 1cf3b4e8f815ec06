"""The theory, executable: gradient flow under label noise, in float64, with the objectives of
training.

    closed    closed forms under symmetric noise: rates, crossovers, fixed points, times
    flow      the exact right-hand side for any objective and label law, integrated
    laws      label noise, long tails and missing labels as label laws
    theorem   the paper's theorem, its assumptions and conditions, evaluated
    descent   steps of real optimizers instead of the flow
    shared    models whose contexts share parameters, beside the flow's prediction
    phase     which objective wins where; advice
    reach     noise and classes up to which the short forms hold

Derivations and figures: docs/theory.md.

    >>> float(crossover(noise=0.1, classes=10).round(3))
    0.721
    >>> risk_reduction_rate([0.5, 0.95], alpha=0, noise=0.1, classes=10).round(4).tolist()
    [0.1111, -0.0026]
"""

from .closed import (
    FixedPoint,
    budget_crossover,
    crossover,
    escape_law,
    escape_time,
    escort,
    fixed_point,
    flow_time,
    noise_at_crossover,
    probability_after,
    risk_reduction_rate,
)
from .descent import Contexts, Measured, Table, descend, draw_contexts, measure
from .flow import (
    Trajectory,
    crossings,
    flow_probability,
    integrate,
    logit_velocity,
    memorisation_time,
    overtaking_time,
    passage_time,
    probability_velocity,
    rate,
    resting_points,
)
from .laws import confident_conflict, drawn, long_tail, missing, pair_flips, structured, uniform
from .phase import Advice, PhaseDiagram, advise, phase_diagram
from .reach import (
    AboveOne,
    best_power,
    many_classes_reach,
    powers_above_one,
    square_root_reach,
)
from .shared import Prediction, Task, predict_and_train
from .theorem import (
    Check,
    Parts,
    check_assumptions,
    check_pair,
    difference_parts,
    diffuse_model,
    risk_reduction_at_start,
)

__all__ = [
    "AboveOne",
    "Advice",
    "Check",
    "Contexts",
    "FixedPoint",
    "Measured",
    "Parts",
    "PhaseDiagram",
    "Prediction",
    "Table",
    "Task",
    "Trajectory",
    "advise",
    "best_power",
    "budget_crossover",
    "check_assumptions",
    "check_pair",
    "confident_conflict",
    "crossings",
    "crossover",
    "descend",
    "difference_parts",
    "diffuse_model",
    "draw_contexts",
    "drawn",
    "escape_law",
    "escape_time",
    "escort",
    "fixed_point",
    "flow_probability",
    "flow_time",
    "integrate",
    "logit_velocity",
    "long_tail",
    "many_classes_reach",
    "measure",
    "memorisation_time",
    "missing",
    "noise_at_crossover",
    "overtaking_time",
    "pair_flips",
    "passage_time",
    "phase_diagram",
    "powers_above_one",
    "predict_and_train",
    "probability_after",
    "probability_velocity",
    "rate",
    "resting_points",
    "risk_reduction_at_start",
    "risk_reduction_rate",
    "square_root_reach",
    "structured",
    "uniform",
]
