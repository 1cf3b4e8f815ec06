"""Checkpoints that are whole or not there, found again by their manifests.

transformers writes a checkpoint in place and takes the one with the highest number. Here it is
written beside its place and renamed, and training goes on from the newest one whose files are the
ones that were written.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints

from ..errors import ProbtuneError, UsageError
from ..files import MANIFEST, WRITING, damage, finish_folder, remove_leftovers

__all__ = ["check_checkpoint", "newest_whole", "save_checkpoint", "step_of", "telling_write_errors"]


def save_checkpoint(trainer: Any, folder: Path, save: Callable[[Path], None]) -> Path:
    """Write the checkpoint of a trainer's step whole into `folder`, remove older ones as its
    arguments say, and return it; by all ranks.

    Args:
        save: writes it into the folder it is given, whose name is the checkpoint's.

    Raises:
        ProbtuneError: it cannot be written; nothing of it is left, older ones are kept.
    """
    target = folder / f"{PREFIX_CHECKPOINT_DIR}-{trainer.state.global_step}"
    beside = folder / WRITING / target.name
    wait, first = trainer.accelerator.wait_for_everyone, trainer.args.should_save
    try:
        with telling_write_errors(target):
            if first:
                remove_leftovers(folder)
                beside.mkdir(parents=True)
            wait()
            save(beside)
            wait()
            if first and damage(target) is not None:  # the same step may be saved twice
                finish_folder(beside, target)
            wait()
    except BaseException:
        if first:
            remove_leftovers(folder)
        raise
    if first:
        remove_leftovers(folder)
        rotate_checkpoints(
            output_dir=str(folder),
            save_total_limit=trainer.args.save_total_limit,
            best_model_checkpoint=trainer.state.best_model_checkpoint,
            use_mtime=True,
        )
    return target


def newest_whole(folder: Path, say: Callable[[str], None] = lambda text: None) -> Path | None:
    """Return the newest checkpoint in `folder` that is whole, and remove what is not; None if there
    is none.

    Args:
        say: called with a line for each checkpoint that is removed.
    """
    remove_leftovers(folder)
    for path in sorted(_checkpoints(folder), key=step_of, reverse=True):
        reason = damage(path)
        if reason is None:
            return path
        say(f"{path} is not whole: {reason}. It is removed.")
        shutil.rmtree(path, ignore_errors=True)
    return None


def check_checkpoint(path: Path) -> None:
    """Refuse a checkpoint that has a manifest and is not whole; one without is another trainer's.

    Raises:
        UsageError: with what is wrong and the way out.
    """
    reason = damage(path) if (path / MANIFEST).exists() else None
    if reason is not None:
        raise UsageError(
            f"{path} is not whole: {reason}. Name another checkpoint, or remove it and resume with"
            " True, which takes the newest whole one."
        )


def step_of(checkpoint: Path | str) -> int:
    """Return the optimizer step of a checkpoint, by its name."""
    return int(Path(checkpoint).name.rpartition("-")[2])


def _checkpoints(folder: Path) -> list[Path]:
    pattern = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-\d+")
    paths = folder.iterdir() if folder.is_dir() else ()
    return [path for path in paths if pattern.fullmatch(path.name) and path.is_dir()]


@contextmanager
def telling_write_errors(target: Path) -> Iterator[None]:
    """Turn the libraries' ways to say that a file could not be written into ours."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, ProbtuneError):
            raise
        if isinstance(error, RuntimeError) and not _WRITER.search(str(error)):
            raise
        reason = "the file could not be written whole (is the disk full?)"
        if not isinstance(error, RuntimeError):  # torch's words name its own source
            reason = " ".join(str(error).split())
        raise ProbtuneError(
            f"cannot write under {target}: {reason}. What was begun is removed, what was finished"
            " is kept; free some space and give the same command again."
        ) from error


_WRITER = re.compile("PytorchStreamWriter|inline_container|enforce fail|basic_ios|iostream")
"""Words of torch's RuntimeError about a file that it could not write."""
