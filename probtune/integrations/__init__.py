"""Any objective in the engine that you train with: one thin module for each.

    transformers_trainer  `transformers.Trainer`, and whatever inherits from it
    trl_trainer           `trl.SFTTrainer` as it is: a mixin for a subclass of your own
    verl                  the loss of verl's SFT trainer
    torchtitan            a `BaseLoss` for `ChunkedLossWrapper`
    axolotl               a plug-in
    swift                 a loss type of ms-swift, for `--external_plugins`
    tinker                weights of a `cross_entropy` pass; Tencent's TCRL has the same interface
    automodel             a loss for NeMo Automodel's `_target_`
    unsloth               a trainer whose model unsloth has compiled
    llamafactory          a launcher
    lightning             a module for Lightning's `Trainer`

loss        the sum of an objective over tokens whose log-probabilities an engine hands over
proof       the engine's loss compared with the objective, on the first real step
running     what a trainer knows beside a batch: its steps, its special tokens
statistics  what is logged, whatever the engine
versions    which releases were tested, and which hooks they have
emitted     the lines to paste into an engine's configuration

Importing this package loads no engine; a module of it may load its own. The core imports none of
these, but that `probe --emit` reads `emitted`.
`docs/engines.md` has an example for each.
"""

from .loss import token_loss

__all__ = ["token_loss"]
