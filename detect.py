"""Step 1: find the neurons that react to toxic text, in every language.  [paper §3.1, §4.3]

    python detect.py                                        # the toy
    python detect.py --model DIR --data DIR --out DIR       # your own
    python detect.py --of multilingual                      # of a tuned model, after train.py

For each language: run toxic and clean sentences through the model, pool every neuron's output over
each sentence, and compute how well that response alone separates the two classes (AUROC), also with
shuffled labels, as a control. Writes OUT/neurons/<language>.safetensors. If it is killed, rerun the
same command to resume.

With --select taylor: how much every neuron matters to the loss on polite replies, from gradients on
the training pairs. Writes OUT/neurons-taylor/<language>.safetensors, for train.py --by taylor.
With --select dinm: the layer whose hidden states differ most between polite and rude replies.
Writes OUT/neurons-dinm/<language>.safetensors, for train.py --by dinm.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

from minitox.data import Sentences, language_rng
from minitox.detect import controls
from minitox.detect.responses import POOL
from minitox.errors import InputError, user_errors
from minitox.lm import checkpoint
from minitox.lm.config import Config, read_config
from minitox.lm.model import LanguageModel
from minitox.lm.text import Tokenizer
from minitox.neurons import by_module, module_rows, select, select_top
from minitox.report import neuron_tables, page
from minitox.run import importance, outputs, overlap_check, script, sharding, tuned_neurons
from minitox.run.detection_inputs import read_all_sentences, read_examples
from minitox.run.device import describe, identity, open_device
from minitox.run.neuron_files import (
    FOLDERS,
    read_importance,
    read_neurons,
    unfinished,
    write_importance,
    write_neurons,
)
from minitox.run.progress import Progress
from minitox.run.recording import Recording, rank, record
from minitox.run.settings import DetectSettings, parse
from minitox.run.tokenizer import open_tokenizer
from minitox.run.tuned_neurons import Source
from minitox.train.pairs import PairChoice

DESCRIPTION = "Find the neurons that react to toxic text, in every language."


def main(argv: list[str] | None = None):
    settings = parse(DetectSettings, DESCRIPTION, argv)
    source = tuned_neurons.source(settings.of, settings.model, settings.out)
    config = read_config(source.model)
    device, dtype = open_device(settings.device, settings.dtype, config, settings.out / "neurons")
    settings = settings.resolved(device.type, config)
    tokenizer = open_tokenizer(source.model, config, settings.out, settings.unchecked_template)
    run = Run(
        source=source,
        identity=identity(checkpoint.fingerprint(source.model), device, dtype),
        config=config,
        tokenizer=tokenizer,
        about=describe(config, device, dtype, tokenizer.checked),
        # the model is loaded on first use: not at all if every language is done
        model=cache(sharding.loader(source.model, device, dtype, settings.shard)),
    )
    importance.check_model(settings.select, dtype, settings.shard)
    if "auroc" in settings.select:
        detect_by_auroc(settings, run)
    for selector in ("taylor", "dinm"):
        if selector in settings.select:
            detect_by_pairs(settings, run, selector)


@dataclass(frozen=True)
class Run:
    """What the selectors have in common."""

    source: Source  # the model, and where its neuron files belong
    identity: dict  # of the model, device and dtype
    config: Config
    tokenizer: Tokenizer
    about: str  # the model and the device, in words
    model: Callable[[], LanguageModel]


def detect_by_auroc(settings: DetectSettings, run: Run):
    """How well every neuron's response separates toxic from clean sentences.  [paper §3.1]"""
    # 1) toxic and clean sentences of each language
    sentences = read_all_sentences(
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
    folder = outputs.open_results(settings.out, run.source.name, made_with, hashes)
    files = {language: folder / f"{language}.safetensors" for language in sentences}
    rows = module_rows(run.config)
    tuned_neurons.prepare(run.source, settings.out, made_with, hashes, rows)
    sources = {language: {"data": hash} for language, hash in hashes.items()}
    todo = unfinished(files, sources, made_with, partial(read_neurons, rows=rows))
    tokens = {language: sum(map(len, sentences[language].ids)) for language in todo}
    print(f"{run.source.model}: {run.about}; {settings.pool} pooling")

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


def detect_by_pairs(settings: DetectSettings, run: Run, selector: str):
    """A selector's value of every neuron, from the training pairs.  [LANDeRMT, DINM]"""
    # 1) the training pairs of each language, without those that train.py keeps aside
    choice = settings.part(PairChoice, max_tokens=settings.max_pair_tokens, objective="sft")
    examples, hashes = read_examples(
        settings.data / "instructions",
        settings.languages,
        run.tokenizer,
        choice,
        selector,
        run.config.longest,
    )
    overlap_check.check(settings.data, ["instructions"], examples, settings.allow_overlap)
    batches = {}
    for language, pairs in examples.items():
        batches[language] = importance.batches_of(pairs, settings.batch_size)

    # 2) the languages that no earlier run has done
    made_with = run.identity | {"selector": selector} | settings.affecting(selector)
    inputs = {language: ",".join(of.values()) for language, of in hashes.items()}
    folder = outputs.open_results(settings.out, FOLDERS[selector], made_with, inputs)
    files = {language: folder / f"{language}.safetensors" for language in examples}
    rows = module_rows(run.config)
    read = partial(read_importance, rows=rows, selector=selector)
    todo = unfinished(files, hashes, made_with, read)
    print(f"{settings.model}: {run.about}; {selector}")

    # 3) the gradients, or the hidden states, of every batch
    progress = Progress(sum(len(batches[language]) for language in todo))
    for language in todo:
        of_language = batches[language]
        about = {"train_pairs": len(examples[language]), "batches": len(of_language)}
        with (
            progress.task(language, len(of_language), "batches") as show,
            outputs.step(files[language], hashes[language]) as step,
            user_errors(f"{language}: ", "; check the weights of the model and --dtype"),
        ):
            if selector == "taylor":
                values = importance.importances(
                    run.model(), of_language, settings.batch_tokens, settings.reference, show
                )
            else:
                values, about["distances"] = importance.layer_values(run.model(), of_language, show)
            about |= made_with | {"language": language} | hashes[language]
            step.write(write_importance, values, about)

    # 4) what it chooses
    print_selected(selector, files, settings.out / FOLDERS["auroc"], rows)
    print(f"\nwrote {folder} ({len(files)} languages)")


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

    # 3) the controls, on the sample: random labels, and labels permuted within each length
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


def print_selected(selector: str, files: dict[str, Path], auroc_folder: Path, rows: dict[str, int]):
    """Print what a selector chooses in each language; for taylor, its overlap with AUROC, too."""
    values = {}
    infos = {}
    for language, path in files.items():
        values[language], infos[language] = read_importance(path, rows, selector)
    if selector == "dinm":
        print("", page.terminal(neuron_tables.layers(infos)), sep="\n")
        return
    chosen = {}
    by_auroc = {}
    for language, path in files.items():
        chosen[language] = select_top(values[language], neuron_tables.COMPARED)
        auroc_file = auroc_folder / path.name
        if not auroc_file.exists():
            continue
        try:
            auroc, _ = read_neurons(auroc_file, rows, infos[language]["model"])
            by_auroc[language] = select_top(auroc, neuron_tables.COMPARED)
        except InputError as error:  # which does not make the selector's values wrong
            print(f"{language}: not compared with AUROC: {error}")
    section = neuron_tables.importance(chosen, by_auroc, infos)
    print("", page.terminal(section), sep="\n")


if __name__ == "__main__":
    script.run(main)
