"""Stage 1: find the neurons that react to toxic text, in every language.  [paper §3.1, §4.3]

    python detect.py                                        # the toy
    python detect.py --model DIR --data DIR --out DIR       # your own
    python detect.py --of multilingual                      # of a tuned model, after train.py

For each language: run toxic and clean sentences through the model, pool every neuron's output over
each sentence, and compute how well that response alone separates the two classes (AUROC), also with
shuffled labels, as a control. Writes OUT/neurons/<language>.safetensors. After a kill, rerun the
same command to resume.
"""

from functools import cache, partial
from pathlib import Path

import numpy as np

from minitox.data import Sentences, language_rng, read_languages, read_sentences
from minitox.detect import controls
from minitox.detect.responses import POOL
from minitox.errors import InputError
from minitox.lm import checkpoint
from minitox.lm.config import read_config
from minitox.neurons import by_module, module_rows, select
from minitox.report import neuron_tables, page
from minitox.run import outputs, overlap_check, script, sharding, tuned_neurons
from minitox.run.candidates import open_tokenizer
from minitox.run.device import describe, identity, open_device
from minitox.run.neuron_files import read_neurons, write_neurons
from minitox.run.progress import Progress
from minitox.run.recording import Recording, rank, record
from minitox.run.settings import DetectSettings, parse

DESCRIPTION = "Find the neurons that react to toxic text, in every language."


def main(argv: list[str] | None = None):
    settings = parse(DetectSettings, DESCRIPTION, argv)
    source = tuned_neurons.source(settings.of, settings.model, settings.out)
    config = read_config(source.model)
    device, dtype = open_device(settings.device, settings.dtype, config, settings.out / "neurons")
    settings = settings.resolved(device.type, config)

    # 1) toxic and clean sentences of each language
    tokenizer = open_tokenizer(source.model, config, settings.out, settings.unchecked_template)
    sentences = read_all(
        settings.data / "detection",
        settings.languages,
        settings.seed,
        tokenizer=tokenizer,
        most=settings.sentences,
        max_tokens=settings.max_tokens,
        match_length=settings.match_length,
        toxic_above=settings.toxic_above,
        clean_below=settings.clean_below,
    )
    overlap_check.check(settings.data, ["detection"], sentences, settings.allow_overlap)

    # 2) the languages that no earlier run has done
    fingerprint = checkpoint.fingerprint(source.model)
    made_with = identity(fingerprint, device, dtype) | settings.affecting("neurons")
    hashes = {language: of_language.data_hash for language, of_language in sentences.items()}
    folder = outputs.open_results(settings.out, source.name, made_with, hashes)
    files = {language: folder / f"{language}.safetensors" for language in sentences}
    rows = module_rows(config)
    tuned_neurons.prepare(source, settings.out, made_with, hashes, rows)
    todo = unfinished(files, sentences, rows, made_with)
    tokens = {language: sum(map(len, sentences[language].ids)) for language in todo}
    about = describe(config, device, dtype, tokenizer.checked)
    print(f"{source.model}: {about}; {settings.pool} pooling")

    # 3) every neuron's response to every sentence, and its AUROC
    # the model is loaded on first use: not at all if every language is done
    model = cache(sharding.loader(source.model, device, dtype, settings.shard))
    pool = POOL[settings.pool]
    progress = Progress(sum(tokens.values()))
    for language in todo:
        labelled = sentences[language]
        with (
            progress.task(language, tokens[language], "tokens") as show,
            outputs.step(files[language], {"data": labelled.data_hash}) as step,
        ):
            ids = labelled.ids
            recording = record(
                model(), ids, tokenizer.special_ids, pool, settings.batch_tokens, step.work, show
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


def unfinished(
    files: dict[str, Path],
    sentences: dict[str, Sentences],
    rows: dict[str, int],
    made_with: dict,  # the model and the settings
) -> list[str]:
    """The languages without a neuron file; InputError if one was made from anything else."""

    def recorded(path: Path) -> dict:
        _, about = read_neurons(path, rows)
        return {key: about.get(key) for key in (*made_with, "data")}

    todo = []
    for language, path in files.items():
        settings = made_with | {"data": sentences[language].data_hash}
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


if __name__ == "__main__":
    script.run(main)
