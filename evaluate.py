"""Stage 3: replies, scores, languages and knowledge of the base and the tuned models, in one report.  [paper §4.2, §4.4, §5]

    python evaluate.py                                         # the toy, after detect.py and train.py
    python evaluate.py --model DIR --data DIR --out DIR        # your own
    python evaluate.py --scorer perspective                    # the paper's scorer, until it closes on 31 December 2026

Reads DATA/prompts, DATA/mmlu and DATA/detection, and the models that train.py left in OUT/models. Every model replies to every
prompt; the replies are scored, their language is told, and OUT/report.html shows the paper's tables and figures, with intervals
and controls. Killed at any moment, the same command goes on where it was.
"""

import time

from minitox.errors import InputError
from minitox.evaluate import language_id, mmlu, perplexity
from minitox.files import claim_run, hold, versions
from minitox.languages import NAMES
from minitox.lm.config import read_config
from minitox.report import page, report, results
from minitox.run import candidates, cli, distributed, evaluation_inputs, replies
from minitox.run.journal import append_batches
from minitox.scorers.choose import open_scorer
from minitox.scorers.perspective import GOOGLE_URL
from minitox.scorers.scores import Scores


def parse_arguments(argv):
    parser = cli.common_arguments(
        "Compare the base and the tuned models: toxicity, language and knowledge."
    )
    parser.set_defaults(languages=",".join(NAMES))
    add = parser.add_argument
    add(
        "--models",
        nargs="+",
        metavar="M",
        help="base, names of folders in OUT/models, or NAME=DIR; default: base and all of OUT/models",
    )
    add(
        "--scorer",
        help="surrogate:FILE, encoder:DIR or perspective; default: surrogate:DATA/scorer.safetensors",
    )
    add(
        "--perspective-url",
        default=GOOGLE_URL,
        metavar="URL",
        help="of a server that speaks as the Perspective API does; PERSPECTIVE_API_KEY is sent there",
    )
    add(
        "--per-minute",
        type=cli.positive(float),
        default=60,
        metavar="F",
        help="requests to it, at most",
    )
    add(
        "--prompts",
        type=cli.positive(int),
        metavar="N",
        help="at most, of each language, drawn at random; default: all",
    )
    add(
        "--max-new-tokens",
        type=cli.positive(int),
        default=64,
        metavar="N",
        help="of a reply; a longer one is cut, and counted",
    )
    add(
        "--temperature",
        type=cli.positive(float, or_zero=True),
        default=0.0,
        metavar="F",
        help="0: always the likeliest token",
    )
    add(
        "--top-p",
        type=cli.share,
        default=1.0,
        metavar="F",
        help="draw from the likeliest tokens that reach this probability",
    )
    add(
        "--samples",
        type=cli.positive(int),
        default=1,
        metavar="N",
        help="replies to each prompt; several need a --temperature",
    )
    add("--no-mmlu", dest="mmlu", action="store_false", help="leave out the questions of DATA/mmlu")
    add(
        "--answer-tokens",
        type=cli.positive(int),
        default=16,
        metavar="N",
        help="of the answer to a question, at most",
    )
    add(
        "--perplexity",
        type=cli.positive(int, or_zero=True),
        default=200,
        metavar="N",
        help="clean sentences of DATA/detection, at most, of each language; 0: none",
    )
    add(
        "--max-tokens",
        type=cli.positive(int),
        default=128,
        metavar="N",
        help="of such a sentence; longer ones are cut",
    )
    add(
        "--batch-tokens",
        type=cli.auto_or(cli.positive(int)),
        default="auto",
        metavar="N",
        help="prompts and replies that are in memory at once; auto: 8,192 on a CPU, 65,536 elsewhere",
    )
    cli.add_spread(parser)
    add(
        "--language-id",
        choices=["script", "langid"],
        default="script",
        help="langid: the paper's, which py3langid holds",
    )
    add(
        "--others-below",
        type=cli.positive(int),
        default=20,
        metavar="N",
        help="rarer reply languages are the others",
    )
    add(
        "--show-text",
        action="store_true",
        help="put prompts and replies into the report; they may be toxic",
    )
    args = parser.parse_args(argv)
    if args.samples > 1 and not args.temperature:
        parser.error(
            "--samples above 1 need a --temperature above 0: the likeliest reply is always the same"
        )
    return args


def ask(args, candidate, found: evaluation_inputs.Inputs, show) -> None:
    """Have one model write all replies, answers and likelihoods that are not on disk yet; `show(label, rows)` is told of each batch."""
    stages = {
        "replies": (replies, found.prompts),
        "mmlu": (mmlu, found.questions),
        "perplexity": (perplexity, found.clean),
    }
    files = [
        module.plan(candidate, rows, args, args.out / stage / candidate.name / f"{language}.jsonl")
        for stage, (module, by_language) in stages.items()
        for language, rows in by_language.items()
    ]
    for done, file in append_batches(files, together=args.spread):
        show(f"{candidate.name}: {file.path.parent.parent.name}, {file.path.stem}", done)


def claim(args, candidate, found: evaluation_inputs.Inputs) -> None:
    """Record what the results depend on, or refuse to mix them with others."""
    keys = {
        "replies": ("prompts", "max_new_tokens", "temperature", "top_p", "samples", "seed"),
        "mmlu": ("answer_tokens",),
        "perplexity": ("perplexity", "max_tokens", "seed"),
    }
    for stage, folder in (("replies", "prompts"), ("mmlu", "mmlu"), ("perplexity", "detection")):
        if folder in found.hashes:
            settings = {
                **candidate.identity,
                "batch_tokens": args.batch_tokens,
                **{key: getattr(args, key) for key in keys[stage]},
            }
            claim_run(args.out / stage / candidate.name, settings, found.hashes[folder])


def main(argv=None) -> None:
    args = parse_arguments(argv)
    config = read_config(args.model)
    device, dtype = cli.prepare_device(args, config, tokens=(8_192, 65_536))
    folders, found = candidates.find(args), evaluation_inputs.read(args)
    scorer = open_scorer(
        args.scorer,
        args.data,
        device,
        dtype,
        perspective_url=args.perspective_url,
        per_minute=args.per_minute,
    )
    identify = language_id.detector(args.language_id)
    usable, failed = candidates.open_all(folders, device, dtype, args.spread)
    hold(args.out)
    for candidate in usable:
        claim(args, candidate, found)
    prompts = sum(map(len, found.prompts.values()))
    print(
        f"{args.model}: {config.model_type}, {config.num_hidden_layers} layers; {device.type} {str(dtype).removeprefix('torch.')}; "
        f"{len(found.prompts)} languages, {prompts:,} prompts\n{scorer.name}: {scorer.about}"
    )
    for name, reason in {**found.gaps, **failed}.items():
        print(f"left out {name}: {reason}")

    each = prompts * args.samples + sum(
        len(rows) for rows in [*found.questions.values(), *found.clean.values()]
    )
    progress = cli.Progress(each * len(usable))
    for number, candidate in enumerate(list(usable)):
        start = time.monotonic()
        try:
            ask(
                args,
                candidate,
                found,
                lambda label, done: progress.show(label, number * each + done),
            )
        except InputError as error:
            failed[candidate.name] = str(error)
            usable.remove(candidate)
        vars(candidate).pop("model", None)  # its weights
        progress.clear()
        print(
            f"{candidate.name}: {failed.get(candidate.name) or cli.duration(time.monotonic() - start)}",
            flush=True,
        )
    if not usable:
        raise InputError(
            "none of the models can be used: "
            + "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        )
    if not distributed.FIRST:
        return  # one process scores and reports

    scores = Scores(args.out / "scores" / f"{scorer.name}.jsonl", scorer)
    progress = cli.Progress(len(usable) * prompts * args.samples)
    measured = results.gather(
        args, found, usable, scores, identify, lambda done: progress.show("scores", done)
    )  # and more gaps
    progress.clear()
    settings = {
        **{key: str(value) for key, value in vars(args).items()},
        "device": device.type,
        "dtype": str(dtype),
        "scorer": scorer.name,
        **versions(),
        **{f"model {candidate.name}": candidate.fingerprint for candidate in usable},
    }
    sections = report.sections(args, measured, scorer, settings, {**failed, **found.gaps}, config)
    report.write(
        args.out,
        f"minitox: {args.model.resolve().name}",
        sections,
        {"settings": settings, **report.numbers(measured)},
    )
    for section in sections[:2]:
        print("", section.title, "", page.markdown_table(section), sep="\n")
    print("", *sections[0].paragraphs(), sep="\n")
    print(f"\nwrote {args.out / 'report.html'}, report.md and report.json ({len(usable)} models)")


if __name__ == "__main__":
    cli.run(main)
