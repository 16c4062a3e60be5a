"""What tuning starts from: the AUROCs that detect.py wrote, and the pairs to tune on."""

import hashlib
from pathlib import Path

from minitox.data import read_pairs
from minitox.errors import InputError
from minitox.lm.text import Tokenizer
from minitox.train.pairs import Pair, PairChoice, Pairs
from minitox.train.strategies import TUNED

HOW_TO_REJECT = (
    "; data/prepare.py rtp-lx --pairs makes pairs with rejected replies, or add a field 'rejected' "
    "with a reply that the model should not give"
)

TRANSLATED = "pairs with translations among the validation or test pairs"


def read_neurons_and_pairs(
    languages: tuple[str, ...],
    order: tuple[str, ...] | None,
    strategies: tuple[str, ...],
    neuron_folder: Path,
    data: Path,  # the folder with instructions/
    tokenizer: Tokenizer,
    choice: PairChoice,
) -> tuple[dict[str, Path], dict[str, Pairs]]:
    """By language in `order`, the neuron file and the pairs, where the strategies can use them.

    Prints why other languages are skipped, and how many pairs were dropped. InputError if no
    language is left.
    """
    # 1) the languages that have the files
    pair_folder = data / "instructions"
    needs_pairs = any(strategy in TUNED for strategy in strategies)
    needs_neurons = set(strategies) != {"full"}
    neuron_files = {}
    with_pairs = []
    skipped = {}
    for language in languages:
        neuron_file = neuron_folder / f"{language}.safetensors"
        pair_file = pair_folder / f"{language}.jsonl"
        if needs_neurons and not neuron_file.exists():
            skipped[language] = (
                f"{neuron_file} does not exist, so no neuron counts as toxic in it, "
                "and its pairs are not used"
            )
            continue
        if needs_pairs and not pair_file.exists():
            skipped[language] = (
                f"{pair_file} does not exist, so its neurons are not tuned, "
                "unless another language has them too"
            )
            continue
        if pair_file.exists():
            with_pairs.append(language)
        if needs_neurons:
            neuron_files[language] = neuron_file

    # 2) their pairs. Interventions need none, but the loss on pairs is measured if there are some
    pairs, without = read_pairs(pair_folder, with_pairs, tokenizer, choice)
    if needs_pairs:
        skipped |= without
        for language in without.keys() & neuron_files:
            del neuron_files[language]
    skipped = {language: skipped[language] for language in languages if language in skipped}
    if not neuron_files and not pairs:
        advice = HOW_TO_REJECT if choice.objective == "dpo" else ""
        raise InputError(f"nothing to do: {'; '.join(skipped.values())}{advice}")

    # 3) what is not used
    for language, reason in skipped.items():
        print(f"skipped {language}: {reason}")
    for language, of_language in pairs.items():
        if of_language.duplicates:
            print(f"{language}: dropped {of_language.duplicates:,} duplicate pairs")
        if of_language.unpaired:
            print(f"{language}: dropped {of_language.unpaired:,} pairs without a rejected reply")
        if of_language.cut:
            print(f"{language}: cut {of_language.cut:,} rejected replies at --max-tokens")
        if of_language.translated:
            print(f"{language}: dropped {of_language.translated:,} {TRANSLATED}")
    return in_order(neuron_files, order), in_order(pairs, order)


def check_pairs(path: Path, about: dict, pairs: Pairs, choice: PairChoice):
    """InputError if a neuron file was made from other training pairs than this run's.

    They could be among this run's validation and test pairs. `about`: the file's metadata.
    """
    # 1) the same file; that of DPO counts its rejected replies, too
    if choice.objective == "sft" and about.get("data") != pairs.data_hash:
        raise InputError(
            f"{path} was made from other pairs than those in --data; run detect.py --select "
            f"{about['selector']} on them, with another --out"
        )
    # 2) the same choice of them
    ours = {
        "pairs": choice.pairs,
        "validation_share": choice.validation_share,
        "max_pair_tokens": choice.max_tokens,
        "seed": choice.seed,
    }
    for name, value in ours.items():
        if about.get(name) != value:
            flag = "--max-tokens" if name == "max_pair_tokens" else f"--{name.replace('_', '-')}"
            raise InputError(
                f"{path} may have seen this run's test pairs: {flag} was {about.get(name)!s:.20}, "
                f"this run's is {value}; use the same, or run detect.py with another --out"
            )
    # 3) DPO leaves out pairs without a rejected reply, and which translations are left out depends
    #    on the languages
    if about.get("train") != train_hash(pairs):
        advice = f"--objective {choice.objective} needs files made from its own"
        if pairs.has_ids:
            advice += ", and detect.py the same --languages"
        raise InputError(
            f"{path} may have seen this run's test pairs, because it was made from other training "
            f"pairs; {advice}"
        )


def train_hash(pairs: Pairs) -> str:
    """The hash of what is trained on, in any order and without rejected replies."""
    return hash_of(sorted_ids(pairs.train))


def recorded_split(pairs: dict[str, Pairs]) -> dict[str, dict[str, str]]:
    """The setting `split` of a model: a hash of all parts of each language whose pairs have ids.

    They depend on the other languages, and on the version of minitox: an earlier one ignored ids.
    Nothing if no pair has an id, because the other settings then determine the parts.
    """
    hashes = {}
    for language, of_language in pairs.items():
        if of_language.has_ids:
            parts = [of_language.train, of_language.validation, of_language.test]
            hashes[language] = hash_of([sorted_ids(part) for part in parts])
    return {"split": hashes} if hashes else {}


def sorted_ids(pairs: list[Pair]) -> list[tuple[int, list[int]]]:
    """The token ids of pairs, whatever their order, without rejected replies."""
    return sorted((pair.start, pair.ids) for pair in pairs)


def hash_of(ids: list) -> str:
    """The hash of the token ids of pairs."""
    return hashlib.sha256(repr(ids).encode()).hexdigest()


def in_order(by_language: dict, order: tuple[str, ...] | None) -> dict:
    """The languages in the order of --order; InputError if it leaves one out."""
    if order is None:
        return by_language
    if missing := by_language.keys() - set(order):
        raise InputError(f"--order leaves out {', '.join(sorted(missing))}")
    return {language: by_language[language] for language in order if language in by_language}
