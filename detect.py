"""Stage 1: find the neurons that react to toxic text, in every language.  [paper §3.1, §4.3]

    python detect.py                                        # the toy
    python detect.py --model DIR --data DIR --out DIR       # your own

For each language: run toxic and clean sentences through the model, pool every neuron's output over
each sentence, and compute how well that response alone separates the two classes (AUROC), also with
shuffled labels, as a control. Writes OUT/neurons/<language>.safetensors. After a kill, rerun the
same command to resume.

With --select taylor: how much every neuron matters to the loss on polite replies, as gradients on
the training pairs tell. Writes OUT/neurons-taylor/<language>.safetensors, for train.py --by taylor.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

from minitox.data import Sentences, language_rng, read_languages, read_pairs, read_sentences
from minitox.detect import controls
from minitox.detect.responses import POOL
from minitox.errors import InputError, user_errors
from minitox.lm import checkpoint
from minitox.lm.config import Config, read_config
from minitox.lm.model import LanguageModel
from minitox.lm.text import Tokenizer
from minitox.neurons import by_module, module_rows, select, select_top
from minitox.report import neuron_tables, page
from minitox.run import importance, outputs, overlap_check, script, sharding
from minitox.run.candidates import open_tokenizer
from minitox.run.device import describe, identity, open_device
from minitox.run.neuron_files import (
    FOLDERS,
    read_importance,
    read_neurons,
    write_importance,
    write_neurons,
)
from minitox.run.progress import Progress
from minitox.run.recording import Recording, rank, record
from minitox.run.settings import DetectSettings, parse
from minitox.train.pairs import PairChoice, Pairs

DESCRIPTION = "Find the neurons that react to toxic text, in every language."


def main(argv: list[str] | None = None):
    settings = parse(DetectSettings, DESCRIPTION, argv)
    config = read_config(settings.model)
    device, dtype = open_device(settings.device, settings.dtype, config, settings.out / "neurons")
    settings = settings.resolved(device.type, config)
    tokenizer = open_tokenizer(settings.model, config, settings.out, settings.unchecked_template)
    run = Run(
        identity(checkpoint.fingerprint(settings.model), device, dtype),
        config,
        tokenizer,
        describe(config, device, dtype, tokenizer.checked),
        # the model is loaded on first use: not at all if every language is done
        cache(sharding.loader(settings.model, device, dtype, settings.shard)),
    )
    if "taylor" in settings.select:
        importance.check_model(dtype, settings.shard)

    if "auroc" in settings.select:
        detect_by_auroc(settings, run)
    if "taylor" in settings.select:
        detect_by_taylor(settings, run)


@dataclass(frozen=True)
class Run:
    """What the selectors have in common."""

    identity: dict  # of the model, device and dtype
    config: Config
    tokenizer: Tokenizer
    about: str  # the model and the device, in words
    model: Callable[[], LanguageModel]


def detect_by_auroc(settings: DetectSettings, run: Run):
    """How well every neuron's response separates toxic from clean sentences.  [paper §3.1]"""
    # 1) toxic and clean sentences of each language
    sentences = read_all(
        settings.data / "detection",
        settings.languages,
        settings.seed,
        tokenizer=run.tokenizer,
        most=settings.sentences,
        max_tokens=settings.max_tokens,
        match_length=settings.match_length,
        toxic_above=settings.toxic_above,
        clean_below=settings.clean_below,
    )
    overlap_check.check(settings.data, ["detection"], sentences, settings.allow_overlap)

    # 2) the languages that no earlier run has done
    made_with = run.identity | settings.affecting("neurons")
    hashes = {language: of_language.data_hash for language, of_language in sentences.items()}
    folder = outputs.open_results(settings.out, "neurons", made_with, hashes)
    files = {language: folder / f"{language}.safetensors" for language in sentences}
    rows = module_rows(run.config)
    todo = unfinished(files, hashes, made_with, partial(read_neurons, rows=rows))
    tokens = {language: sum(map(len, sentences[language].ids)) for language in todo}
    print(f"{settings.model}: {run.about}; {settings.pool} pooling")

    # 3) every neuron's response to every sentence, and its AUROC
    pool = POOL[settings.pool]
    progress = Progress(sum(tokens.values()))
    for language in todo:
        labelled = sentences[language]
        with (
            progress.task(language, tokens[language], "tokens") as show,
            outputs.step(files[language], {"data": labelled.data_hash}) as step,
        ):
            ids = labelled.ids
            special = run.tokenizer.special_ids
            recording = record(
                run.model(), ids, special, pool, settings.batch_tokens, step.work, show
            )
            rng = language_rng(settings.seed, language)
            aurocs, shuffled, about = measure(
                recording, labelled, rng, settings.control_neurons, settings.reference
            )
            about = made_with | {"language": language} | about
            step.write(write_neurons, by_module(aurocs, rows), by_module(shuffled, rows), about)

    # 4) the paper's Table 2, Figures 2 and 3
    print_tables(files, rows)
    print(f"\nwrote {folder} ({len(files)} languages)")


def detect_by_taylor(settings: DetectSettings, run: Run):
    """How much every neuron matters to the loss on polite replies.  [LANDeRMT]"""
    # 1) the training pairs of each language, without those that train.py keeps aside
    choice = settings.part(PairChoice, max_tokens=settings.max_pair_tokens, objective="sft")
    pairs = read_all_pairs(
        settings.data / "instructions", settings.languages, run.tokenizer, choice
    )
    overlap_check.check(settings.data, ["instructions"], pairs, settings.allow_overlap)

    # 2) the languages that no earlier run has done
    made_with = run.identity | {"selector": "taylor"} | settings.affecting("taylor")
    hashes = {language: of_language.data_hash for language, of_language in pairs.items()}
    folder = outputs.open_results(settings.out, FOLDERS["taylor"], made_with, hashes)
    files = {language: folder / f"{language}.safetensors" for language in pairs}
    rows = module_rows(run.config)
    read = partial(read_importance, rows=rows, selector="taylor")
    todo = unfinished(files, hashes, made_with, read)
    batches = {}
    for language, of_language in pairs.items():
        batches[language] = importance.batches_of(of_language.train, settings.batch_size)
    print(f"{settings.model}: {run.about}; importance by taylor")

    # 3) the gradients on every batch
    progress = Progress(sum(len(batches[language]) for language in todo))
    for language in todo:
        of_language = batches[language]
        with (
            progress.task(language, len(of_language), "batches") as show,
            outputs.step(files[language], {"data": hashes[language]}) as step,
            user_errors(f"{language}: ", "; check the weights of the model and --dtype"),
        ):
            values = importance.importances(
                run.model(), of_language, settings.batch_tokens, settings.reference, show
            )
            about = made_with | {
                "language": language,
                "data": hashes[language],
                "train_pairs": len(pairs[language].train),
                "batches": len(of_language),
            }
            step.write(write_importance, values, about)

    # 4) how far it chooses the neurons that AUROC chooses
    print_importance(files, settings.out / FOLDERS["auroc"], rows)
    print(f"\nwrote {folder} ({len(files)} languages)")


def read_all(folder: Path, languages: tuple[str, ...], seed: int, **how) -> dict[str, Sentences]:
    """The sentences of each language that can be used; prints what is left out."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; --data must have detection/<language>.jsonl")
    sentences, skipped = read_languages(folder, languages, seed, partial(read_sentences, **how))
    for language, reason in skipped.items():
        print(f"skipped {language}: {reason}")
    for language, labelled in sentences.items():
        for reason, count in labelled.dropped.items():
            if count:
                print(f"{language}: dropped {count:,} {reason}")
    if not sentences:
        raise InputError(f"{folder}: no language of {', '.join(languages)} can be used")
    return sentences


def read_all_pairs(
    folder: Path, languages: tuple[str, ...], tokenizer: Tokenizer, choice: PairChoice
) -> dict[str, Pairs]:
    """The pairs of each language that has some; prints which languages are skipped."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; --data must have instructions/<lang>.jsonl")

    def read(path: Path, rng) -> Pairs:  # read_pairs has random numbers of its own
        return read_pairs(path, tokenizer, choice)

    pairs, skipped = read_languages(folder, languages, choice.seed, read)
    for language, reason in skipped.items():
        print(f"skipped {language}: {reason}")
    if not pairs:
        raise InputError(f"{folder}: no language of {', '.join(languages)} can be used")
    return pairs


def unfinished(
    files: dict[str, Path],
    hashes: dict[str, str],  # of each language's data
    made_with: dict,  # the model and the settings
    read,  # a file -> its values, and how they were computed
) -> list[str]:
    """The languages without a neuron file; InputError if one was made from anything else."""

    def recorded(path: Path) -> dict:
        _, about = read(path)
        return {key: about.get(key) for key in (*made_with, "data")}

    todo = []
    for language, path in files.items():
        settings = made_with | {"data": hashes[language]}
        if not outputs.is_done(path, settings, recorded):
            todo.append(language)
    return todo


def measure(
    recording: Recording,
    sentences: Sentences,
    rng,
    control_neurons: int,
    reference: bool,
) -> tuple[np.ndarray, np.ndarray, dict]:  # (K,), (K,)
    """AUROC of every neuron with the true labels and with shuffled ones, and the controls."""
    # 1) the labels, and one permutation of them; its random numbers leave those of `rng` alone
    (another_rng,) = rng.spawn(1)
    labels = np.stack([sentences.toxic, another_rng.permutation(sentences.toxic)])  # (2, N)

    # 2) rank the responses; labels and lengths follow the order of the recording
    labels = labels[:, recording.order]
    toxic = labels[0]
    lengths = sentences.lengths[recording.order]
    sample = np.sort(rng.permutation(recording.neurons)[:control_neurons])  # (S,)
    (aurocs, with_shuffled_labels), responses = rank(recording, labels, sample, reference)

    # 3) the controls, on the sample: under random labels, and under random labels of a length
    shuffled = controls.shuffled_aurocs(responses, toxic, rng)
    strata = controls.length_strata(lengths, toxic)
    alike = controls.shuffled_aurocs(responses, toxic, rng, strata=strata)
    about = {
        "data": sentences.data_hash,
        "toxic": int(toxic.sum()),
        "clean": int((~toxic).sum()),
        "cut": sentences.cut,
        "length_auroc": controls.length_auroc(lengths, toxic),
        "band": controls.random_label_band(shuffled),
        "beyond_chance": controls.beyond_chance(aurocs, shuffled),
        "by_length": controls.beyond_chance(alike, shuffled),
        "beyond_length": controls.beyond_length(aurocs[sample], alike),
        "split_half": controls.split_half(responses, toxic, lengths, rng),
        "ties": float((aurocs == 0.5).mean()),
    }
    return aurocs, with_shuffled_labels, about


def print_tables(files: dict[str, Path], rows: dict[str, int]):
    """Print toxic neurons and controls of each language, and how far languages share them."""
    masks = {}
    controls_of = {}
    for language, path in files.items():
        auroc, about = read_neurons(path, rows)
        masks[language] = select(auroc)
        controls_of[language] = neuron_tables.check_info(path, about)
    sections = [neuron_tables.table2(masks, controls_of), neuron_tables.figure2(masks)]
    sections += neuron_tables.figure3(masks)
    for section in sections:
        print("", page.terminal(section), sep="\n")


def print_importance(files: dict[str, Path], auroc_folder: Path, rows: dict[str, int]):
    """Print how much each language has of the neurons that AUROC would choose."""
    chosen = {}
    by_auroc = {}
    infos = {}
    for language, path in files.items():
        values, infos[language] = read_importance(path, rows, "taylor")
        chosen[language] = select_top(values, neuron_tables.COMPARED)
        auroc_file = auroc_folder / path.name
        if auroc_file.exists():
            fingerprint = infos[language]["model"]
            auroc, _ = read_neurons(auroc_file, rows, fingerprint)
            by_auroc[language] = select_top(auroc, neuron_tables.COMPARED)
    section = neuron_tables.importance(chosen, by_auroc, infos)
    print("", page.terminal(section), sep="\n")


if __name__ == "__main__":
    script.run(main)
