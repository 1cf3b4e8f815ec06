"""`probtune tune`: hold out, probe, choose, train, measure, compare, report.

    read rows ── hold out ─┬─ probe the base model ── choose ─┬─ train f1 ── measure ─┐
                           │                                  ├─ train f2 ── measure ─┼─ compare
                           └──────────── measure the base model ──────────────────────┘

Every stage leaves a record in the run's folder, and a stage whose record is there is not done
again: an interrupted run goes on where it was when the same command is given once more.

    DIR/run.json                what the run is: settings and data hashes
    DIR/probe.json              the probe and its suggestion
    DIR/scout.json              where the probe chooses: the scout, and the probe after it
    DIR/weights.json            the rows that weigh little, if an objective weighs sequences
    DIR/reference.arrow         the base model's log-probabilities, if an objective needs them
    DIR/better.arrow            those of a better model
    DIR/base/heldout.json       the base model on the held-out rows
    DIR/<objective>/model/      the fine-tuned model
    DIR/<objective>/train.json  how it was trained
    DIR/<objective>/metrics.jsonl  its log entries, written as it is trained
    DIR/<objective>/heldout.json
    DIR/logs/                   files of the trackers that --report-to names
    DIR/select.json             with select:A,B: which arm was taken, by how much
    DIR/record.json             all of it, with the paired comparison
    DIR/report.html             the same to look at, in one file
"""

from .preparation import slug
from .probing import probe_only
from .run import train, tune

__all__ = ["probe_only", "slug", "train", "tune"]
