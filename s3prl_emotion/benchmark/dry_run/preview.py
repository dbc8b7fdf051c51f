"""Write what a benchmark would do, how much it would store and how long it would take."""

from __future__ import annotations

import copy
import math
import statistics
import tempfile
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s3prl_emotion.benchmark.dry_run.measure import Measured, corpus_of, kind_of, measure, self_contained, work_of
from s3prl_emotion.benchmark.execution import State
from s3prl_emotion.benchmark.live import clock
from s3prl_emotion.benchmark.plan import Plan, Run
from s3prl_emotion.benchmark.prepare import is_done
from s3prl_emotion.benchmark.records import RESULTS, TRIALS, read_results
from s3prl_emotion.benchmark.scheduler import is_finished, is_given_up
from s3prl_emotion.errors import EmotionError, TrainingError
from s3prl_emotion.files.terminal import say
from s3prl_emotion.recipe import NEVER, augmentation

TO_DO = ("to do", "begun", "failed")


@dataclass
class Store:
    """The audio whose features of one upstream a store will keep.

    Attributes:
        run: one of the runs that use it
        lengths: seconds of every utterance, by its path; an utterance that training cuts also counts at its cut length
        holds_frames: whether a run reads frames; else means over them suffice
    """

    run: Run
    lengths: dict[str, float] = field(default_factory=dict)
    holds_frames: bool = False


def preview(plan: Plan, jobs: int, device: str | None, retries: int, measured: bool = True) -> None:
    """Write what a benchmark would do to standard output.

    Args:
        plan: the expanded matrix
        jobs: runs at a time
        device: ``--device``
        retries: how often a failed run is tried again
        measured: train a few steps of each distinct run in a scratch folder, to predict size and time

    Raises:
        ConfigError: the matrix holds a run that cannot work
    """
    from s3prl_emotion.benchmark.checks import check_plan

    check_plan(plan)
    write: Callable[[str], Any] = _write
    done = read_results(plan.out / RESULTS) | read_results(plan.out / TRIALS)
    states = {run.cell.id: state_of(run, done, retries) for run in [*plan.trials, *plan.runs]}
    write(f"{plan.matrix.path}: {len(plan.runs)} runs{_and_trials(plan)}\n")
    for run in [*plan.trials, *plan.runs]:
        state = State.of(run)
        error = f": {state.error}" if states[run.cell.id] != "finished" and state and state.error else ""
        write(f"  {states[run.cell.id]:<12} {run.cell.id}{error}\n")
    for path, step in sorted({step.folder: step for run in plan.runs for step in run.steps}.items()):
        write(f"  {'made' if is_done(step) else 'to be made':<12} prepared: {path.relative_to(plan.out)}\n")
    left = [run for run in [*plan.trials, *plan.runs] if states[run.cell.id] in TO_DO]
    if left and measured:
        _predict(plan, left, done, jobs, device, write)


def state_of(run: Run, done: dict[str, dict[str, Any]], retries: int) -> str:
    """Return ``finished``, ``begun`` (to be resumed), ``failed`` (to be retried), ``gave up`` or ``to do``."""
    if is_finished(run, done):
        return "finished"
    state = State.of(run)
    if state is None:
        return "to do"
    if is_given_up(run, retries) is not None:
        return "gave up"
    return "failed" if state.error else "begun"


def _write(line: str) -> None:
    say(line.removesuffix("\n"))


def _and_trials(plan: Plan) -> str:
    return f", {len(plan.trials)} more of the search for learning rates" if plan.trials else ""


def _predict(
    plan: Plan, left: list[Run], done: dict[str, dict[str, Any]], jobs: int, device: str | None, write: Any
) -> None:
    """Write the predicted size of the store and duration of the runs that are left."""
    kinds: dict[str, list[Run]] = {}
    for run in left:
        kinds.setdefault(kind_of(run), []).append(run)
    stores: dict[tuple[str, ...], Store] = {}
    speeds: dict[tuple[str, ...], float] = {}
    total, unknown = 0.0, 0
    write("time, measured in a scratch folder:\n")
    for runs in kinds.values():
        run = runs[0]
        what = f"{run.cell.upstream} | {run.cell.system}"
        ready = next((one for one in runs if all(is_done(step) for step in one.steps)), None)
        if ready is None:
            write(f"  {what}: unknown before {run.steps[-1].name} is prepared\n")
            unknown += len(runs)
            continue
        try:
            with tempfile.TemporaryDirectory(prefix="s3prl-emotion-dry-run-") as scratch:
                speed = measure(ready, plan, Path(scratch), device)
        except (TrainingError, OSError) as error:
            write(f"  {what}: unknown: {' '.join(str(error).split())}\n")
            unknown += len(runs)
            continue
        key = (*run.upstream_flags, *run.store_flags)
        for one in runs:
            store = stores.setdefault(key, Store(one))
            store.holds_frames |= _reads_frames(one)
            _add_audio(one, store)
        speeds[key] = max(speeds.get(key, 0.0), speed.features)
        total += _write_kind(what, runs, stores[key], speed, done, write)
    for key, store in stores.items():
        if store.run.store_flags:
            total += _write_store(plan, store, speeds[key], device, write)
    more = f", and {unknown} runs of unknown length" if unknown else ""
    at_once = "" if jobs == 1 else f" with {jobs} runs at a time, if they do not slow each other down"
    write(f"about {clock(total / jobs)}{at_once}{more}; prepared steps are not counted, early stopping takes less\n")


def _write_kind(
    what: str, runs: list[Run], store: Store, speed: Measured, done: dict[str, dict[str, Any]], write: Any
) -> float:
    """Write how long the runs of one kind will take, and why; return the seconds of all of them."""
    mean = statistics.fmean(store.lengths.values())
    works = [work_of(run, mean) for run in runs]
    seconds = [work.seconds(speed) for work in works]
    one = works[0]
    utterances = one.evaluations * one.evaluated + one.final
    parts = [f"{1 + one.commands} x {speed.startup:.1f} s to start and end", f"{one.steps} steps x {ms(speed.step)}"]
    parts.append(f"{utterances} evaluated utterances x {ms(speed.utterance)}")
    if one.computed:
        parts.append(f"{one.computed:.0f} s of audio x {ms(speed.features)}")
    all_of_them = f"{len(runs)} runs: {clock(sum(seconds))}{_earlier(runs[0], done)}"
    write(f"  {what}: {' + '.join(parts)} = {seconds[0]:.0f} s; {all_of_them}\n")
    return sum(seconds)


def ms(seconds: float) -> str:
    """Format seconds as milliseconds."""
    return f"{1e3 * seconds:.2f} ms"


def _earlier(run: Run, done: dict[str, dict[str, Any]]) -> str:
    """Return a note on how long finished runs of the same system and upstream took."""
    took = [
        sum(line["seconds"].values())
        for line in done.values()
        if (line["upstream"], line["system"]) == (run.cell.upstream, run.cell.system)
    ]
    return f" (finished ones took {statistics.fmean(took):.0f} s each)" if took else ""


def _reads_frames(run: Run) -> bool:
    """Return whether means over frames do not suffice for a run."""
    from s3prl_emotion import host
    from s3prl_emotion.store.means import MEANS

    head = host.expert_class(run.head)
    *_, modelrc = head.read_section(copy.deepcopy(run.config["downstream_expert"]), None, run.config["runner"])
    augment = augmentation(run.config)
    masks = run.config.get("specaug") or (augment is not None and augment.spec_augment is not None)
    means = head.reads(modelrc) == MEANS and not masks
    return not means or NEVER in run.statistics_flags or "-f" in run.upstream_flags


def _add_audio(run: Run, store: Store) -> None:
    """Add the utterances of a run's corpus to a store's audio, and the versions of training utterances (``views``)."""
    from s3prl_emotion.extract.filling import all_utterances, durations

    corpus = corpus_of(run)
    utterances = [item for item in all_utterances(corpus) if item.place not in store.lengths]
    most = run.config["downstream_expert"]["datarc"].get("max_duration")
    for item, seconds in zip(utterances, durations(utterances), strict=True):
        store.lengths[item.place] = seconds
        if most is not None and seconds > most:
            store.lengths[f"{item.place} cut"] = most
    augment = augmentation(run.config)
    if augment is None or not augment.of_waveforms:
        return
    drawn = augment.seeded(run.cell.seed).model_dump_json()
    for item in corpus.split(run.config["runner"].get("train_dataloader", "train")):
        for view in range(augment.views or 0):
            store.lengths[f"{item.place} {drawn} {view}"] = min(store.lengths[item.place], most or math.inf)


def _write_store(plan: Plan, store: Store, speed: float, device: str | None, write: Any) -> float:
    """Write how much a store will hold for an upstream; return the seconds of computing what it lacks."""
    run, count, seconds = store.run, len(store.lengths), sum(store.lengths.values())
    try:
        total, share = _size(plan, store, seconds, count, device)
    except EmotionError as error:
        write(f"  store, {run.cell.upstream}: unknown: {' '.join(str(error).split())}\n")
        return 0.0
    needed = speed * seconds * (1 - share)
    write(
        f"  store, {run.cell.upstream}: {count} utterances, {seconds / 3600:.2f} h: {total / 1e9:.3f} GB, "
        f"{100 * share:.0f} % of it exist; {seconds * (1 - share):.0f} s of audio x {ms(speed)} = "
        f"{needed:.0f} s of computing\n"
    )
    return needed


def _size(plan: Plan, store: Store, seconds: float, utterances: int, device: str | None) -> tuple[int, float]:
    """Return the bytes of an upstream's features, and the share of the utterances that the store holds already."""
    run = store.run
    import torch

    from s3prl_emotion.extract.filling import predicted_sizes
    from s3prl_emotion.store import FeatureStore
    from s3prl_emotion.store.means import FRAMES, MEANS, MeansIdentity
    from s3prl_emotion.store.store import ABOUT
    from s3prl_emotion.upstreams.build import build_source

    dtype = plan.matrix.section.store_dtype
    with tempfile.TemporaryDirectory(prefix="s3prl-emotion-dry-run-") as scratch:
        flags = self_contained(run.upstream_flags, plan, Path(scratch))
        names = {"-u": "upstream", "-k": "upstream_ckpt", "-g": "upstream_model_config",
                 "-s": "upstream_feature_selection"}  # fmt: skip
        given = {names[flag]: flags[at + 1] for at, flag in enumerate(flags) if flag in names}
        defaults: dict[str, Any] = {"upstream_ckpt": None, "upstream_model_config": None, "upstream_path": None}
        defaults["upstream_feature_selection"] = "hidden_states"
        flag = run.upstream_flag("-l")
        layer = run.config["downstream_expert"].get("layer") if flag is None else int(flag)
        options = {"upstream_layer_selection": layer, "device": device, "feature_store": None, "store_dtype": dtype}
        source = build_source(Namespace(**defaults | given | options))
        source.featurizer.normalize = "--upstream_feature_normalize" in run.upstream_flags
        sizes = predicted_sizes(source, seconds, utterances, getattr(torch, dtype))
        total = sizes[MEANS] + (sizes[FRAMES] if store.holds_frames else 0)
        identity = source.identity(dtype)
        if not store.holds_frames:
            identity = MeansIdentity.of(identity, source.normalizes)
    root = Path(run.store_flags[1])
    if not (root / identity.id / ABOUT).is_file():
        return total, 0.0
    opened = FeatureStore(root, identity)
    share = min(1.0, len(opened) / max(1, utterances))
    opened.close()
    return total, share
