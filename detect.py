"""Stage 1: find the neurons that react to toxic text, in every language.  [paper §3.1, §4.3]

    python detect.py                                        # the toy
    python detect.py --model DIR --data DIR --out DIR       # your own

For each language: run toxic and clean sentences through the model, pool every neuron's output over each sentence, and ask
how well that response alone tells the two apart (AUROC). Writes OUT/neurons/<language>.safetensors.
Killed at any moment, the same command goes on where it was.
"""

import shutil
import time
from pathlib import Path

import numpy as np

from minitox import neurons
from minitox.detect import controls, responses
from minitox.detect.auroc import recorded_aurocs
from minitox.detect.sentences import Sentences, prepare
from minitox.errors import InputError, UnusableLanguage
from minitox.files import claim_run, hold
from minitox.lm import checkpoint
from minitox.lm.batching import batches
from minitox.lm.config import read_config
from minitox.lm.text import Tokenizer
from minitox.report import neuron_tables, page
from minitox.run import cli, distributed


def parse_arguments(argv):
    parser = cli.common_arguments("Find the neurons that react to toxic text, in every language.")
    parser.add_argument(
        "--pool",
        choices=list(responses.POOL),
        default="max",
        help="how a sentence's tokens become one response",
    )
    parser.add_argument(
        "--match-length",
        action="store_true",
        help="use as many toxic as clean sentences of every length",
    )
    parser.add_argument(
        "--sentences",
        type=cli.positive(int),
        default=5_000,
        metavar="N",
        help="at most, of each class",
    )
    parser.add_argument(
        "--max-tokens",
        type=cli.positive(int),
        default=128,
        metavar="N",
        help="longer sentences are cut, and counted",
    )
    parser.add_argument(
        "--toxic-above", type=float, default=0.5, metavar="F", help="toxicity of a toxic sentence"
    )
    parser.add_argument(
        "--clean-below", type=float, default=0.2, metavar="F", help="toxicity of a clean sentence"
    )
    parser.add_argument(
        "--batch-tokens",
        type=cli.auto_or(cli.positive(int)),
        default="auto",
        metavar="N",
        help="padded tokens in a batch; auto: 1,024 on a CPU, 16,384 elsewhere",
    )
    parser.add_argument(
        "--sample",
        type=cli.positive(int),
        default=2_000,
        metavar="N",
        help="neurons on which the random-label band and the split-half agreement are estimated",
    )
    cli.add_spread(parser)
    return parser.parse_args(argv)


def read_languages(args, tokenizer: Tokenizer) -> dict[str, Sentences]:
    """Every language's sentences; one that cannot be used is named and skipped, and with none left there is nothing to do."""
    if not (args.data / "detection").is_dir():
        raise InputError(
            f"{args.data / 'detection'}: no such folder; --data must hold detection/<language>.jsonl"
        )
    found = {}
    for language in args.languages:
        path = args.data / "detection" / f"{language}.jsonl"
        if not path.exists():
            print(f"skipped {language}: {path} does not exist")
            continue
        try:
            found[language] = prepare(
                path, tokenizer, args, np.random.default_rng([args.seed, *language.encode()])
            )
        except UnusableLanguage as reason:
            print(f"skipped {language}: {reason}")
    if not found:
        raise InputError(
            f"{args.data / 'detection'}: no language of {', '.join(args.languages)} can be used"
        )
    return found


def detect_language(
    args, model, tokenizer, fingerprint: str, language: str, sentences: Sentences, advance
) -> None:
    """Record, rank and save one language; `advance(tokens)` is told how far the recording is."""
    work = args.out / "neurons" / f"{language}.partial"
    claim_run(work, {"data": sentences.data_hash})
    plan = batches([len(ids) for ids in sentences.ids], args.batch_tokens)
    pool = responses.POOL[args.pool]
    for done in responses.record(model, sentences.ids, plan, tokenizer.special_ids, pool, work):
        advance(sum(len(sentences.ids[i]) for batch in done for i in plan[batch]))

    order = np.concatenate(plan)  # the sentences as they lie in the files
    toxic, lengths = sentences.toxic[order], sentences.lengths[order]
    rows = neurons.module_rows(model.config)
    total = sum(rows.values())
    rng = np.random.default_rng([args.seed, *language.encode()])
    sample = np.sort(rng.permutation(total)[: args.sample])
    found, sampled = recorded_aurocs(work, plan, total, toxic, sample)
    if not distributed.FIRST:
        return
    shuffled = controls.shuffled_aurocs(sampled, toxic, rng)
    info = {
        "model": fingerprint,
        "language": language,
        "data": sentences.data_hash,
        "toxic": int(toxic.sum()),
        "clean": int((~toxic).sum()),
        "cut": sentences.cut,
        "length_auroc": controls.length_auroc(lengths, toxic),
        "band": controls.random_label_band(shuffled),
        "beyond_chance": controls.beyond_chance(found, shuffled),
        "split_half": controls.split_half(sampled, toxic, rng),
        "ties": float((found == 0.5).mean()),
    }
    neurons.save(neuron_file(args, language), neurons.by_module(found, rows), info)
    shutil.rmtree(work)


def neuron_file(args, language: str) -> Path:
    return args.out / "neurons" / f"{language}.safetensors"


def is_done(args, rows, language: str, sentences: Sentences) -> bool:
    """Whether an earlier run finished this language; InputError if it did so on other sentences."""
    path = neuron_file(args, language)
    if not path.exists():
        return False
    if neurons.load(path, rows)[1].get("data") != sentences.data_hash:
        raise InputError(
            f"{path} was made from other sentences than {args.data / 'detection'} now holds; "
            f"choose another --out, or delete {path}"
        )
    return True


def main(argv=None) -> None:
    args = parse_arguments(argv)
    config = read_config(args.model)
    device, dtype = cli.prepare_device(args, config, tokens=(1_024, 16_384))
    tokenizer = Tokenizer(args.model, config)
    rows = neurons.module_rows(config)
    languages = read_languages(args, tokenizer)
    keys = (
        "pool",
        "match_length",
        "sentences",
        "max_tokens",
        "toxic_above",
        "clean_below",
        "batch_tokens",
        "sample",
        "seed",
    )
    fingerprint = checkpoint.fingerprint(args.model)
    hold(args.out)
    claim_run(
        args.out / "neurons",
        {
            "model": fingerprint,
            "device": device.type,
            "dtype": str(dtype),
            **{key: getattr(args, key) for key in keys},
        },
    )
    todo = distributed.broadcast(
        [
            language
            for language in languages
            if not is_done(args, rows, language, languages[language])
        ]
    )
    if (
        distributed.FIRST
    ):  # a kill may have come between the saving of a language and the removal of its responses
        for language in languages.keys() - set(todo):
            shutil.rmtree(args.out / "neurons" / f"{language}.partial", ignore_errors=True)
    tokens = {language: sum(map(len, languages[language].ids)) for language in todo}
    print(
        f"{args.model}: {config.model_type}, {config.num_hidden_layers} layers, {sum(rows.values()):,} neurons; "
        f"{device.type} {str(dtype).removeprefix('torch.')}; {args.pool} pooling"
    )
    model = checkpoint.load(args.model, device, dtype, args.spread) if todo else None
    progress, before = cli.Progress(sum(tokens.values())), 0
    for language in todo:
        start = time.monotonic()
        detect_language(
            args,
            model,
            tokenizer,
            fingerprint,
            language,
            languages[language],
            lambda n: progress.show(language, before + n),
        )
        before += tokens[language]
        progress.clear()
        print(
            f"{language}: {tokens[language]:,} tokens in {cli.duration(time.monotonic() - start)}",
            flush=True,
        )

    if not distributed.FIRST:
        return
    loaded = {language: neurons.load(neuron_file(args, language), rows) for language in languages}
    masks = {language: neurons.select(auroc_of) for language, (auroc_of, _) in loaded.items()}
    infos = {
        language: neuron_tables.check_info(f"neurons/{language}.safetensors", info)
        for language, (_, info) in loaded.items()
    }
    sections = [neuron_tables.table2(masks, infos), neuron_tables.figure2(masks)]
    sections += neuron_tables.figure3(masks)
    for section in sections:
        print("", page.terminal(section), sep="\n")
    print(f"\nwrote {args.out / 'neurons'} ({len(masks)} languages)")


if __name__ == "__main__":
    cli.run(main)
