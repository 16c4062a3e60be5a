"""Step 3: replies, scores, languages and knowledge of base and tuned models, in one report.

    python evaluate.py                                    # the toy, after detect.py and train.py
    python evaluate.py --model DIR --data DIR --out DIR   # your own
    python evaluate.py --scorer perspective               # the paper's, until 31 December 2026

Reads the folders of DATA, and the models that train.py left in OUT/models. Every model replies to
every prompt. The replies are scored, their language is identified, and their fluency is compared
with that of the replies in DATA/instructions, which people wrote or accepted.
OUT/report.html shows the paper's tables and figures, with intervals and controls. If it is killed,
rerun the same command to resume.  [paper §4.2, §4.4, §5]
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

from minitox.errors import InputError
from minitox.files import versions
from minitox.lm.config import Config, read_config
from minitox.report import exaggerated_safety, numbers, page, report, results, verdicts
from minitox.report.scorer_tables import Opinion, measure
from minitox.run import candidates, distributed, outputs, overlap_check, script
from minitox.run.device import describe, open_device
from minitox.run.divergence import check_divergence, compared, in_failures, measure_divergence
from minitox.run.evaluation import Asking, plan_all
from minitox.run.evaluation_inputs import Inputs, read_inputs
from minitox.run.fluency import check_fluency, measure_fluency
from minitox.run.journal import append_batches
from minitox.run.language_detector import open_detector
from minitox.run.progress import Progress
from minitox.run.scorer import ScorerOptions, open_scorers
from minitox.run.settings import EvaluateSettings, parse
from minitox.scorers.scores import Scores

DESCRIPTION = "Compare the base and the tuned models: toxicity, language and knowledge."
INPUTS_OF = {  # folder of results: folder of DATA
    "replies": "prompts",
    "mmlu": "mmlu",
    "perplexity": "detection",
    "xstest": "xstest",
}


def main(argv: list[str] | None = None) -> None:
    settings = parse(EvaluateSettings, DESCRIPTION, argv)
    config = read_config(settings.model)
    device, dtype = open_device(settings.device, settings.dtype, config, settings.out / "replies")
    settings = settings.resolved(device.type, config)

    # 1) the models, what they are asked, and what judges their replies
    folders = candidates.find(settings.models, settings.model, settings.out)
    inputs = read_inputs(
        settings.data,
        settings.languages,
        most_prompts=settings.prompts,
        with_questions=settings.mmlu,
        most_sentences=settings.perplexity,
        with_cases=settings.hatecheck,
        with_xstest=settings.xstest,
        seed=settings.seed,
    )
    options = settings.part(ScorerOptions)
    scorers = open_scorers(settings.scorer, settings.data, device, dtype, options)
    identify = open_detector(settings.language_id)
    overlap = overlap_check.check(
        settings.data, overlap_check.FIELDS, inputs.prompts, settings.allow_overlap, scorers
    )
    usable, base, failed = open_models(folders, inputs.needs_base(), settings, device, dtype)
    check_results(settings.out, usable, base, inputs, settings.affecting)
    checked = all(candidate.tokenizer.checked for candidate in usable)
    print(f"{settings.model}: {describe(config, device, dtype, checked)}; {inputs.about()}")
    print_header(scorers, inputs.gaps | failed)

    # 2) every model is asked, and the base model reads all replies
    failed |= ask_all(usable, base, inputs, settings.out, settings.part(Asking), settings.shard)
    usable = remaining(usable, failed)
    inputs = as_measured(inputs, base, usable, failed)

    # 3) the replies' scores and languages, and the report
    of_run = {"device": device.type, "dtype": str(dtype)} | versions()
    record = settings.record() | of_run | hashes_of(usable, base, scorers)
    missing = failed | inputs.gaps
    distributed.once(
        score_and_report,
        settings,
        config,
        usable,
        inputs,
        scorers,
        identify,
        record,
        missing,
        overlap,
    )
    print_end(settings.out, len(usable), folders if settings.models else ["base"], failed)


def open_models(folders: dict[str, Path], uses: list[str], settings, device, dtype):
    """The models that can be used, the base model if it has uses, and why others are left out."""
    open_model = partial(
        candidates.open_one,
        device=device,
        dtype=dtype,
        shard=settings.shard,
        out=settings.out,
        unchecked=settings.unchecked_template,
    )
    usable, failed = candidates.open_all(folders, open_model)
    base, without = candidates.open_base(usable, uses, settings.model, open_model)
    return usable, base, failed | without


def score_and_report(
    settings: EvaluateSettings,
    config: Config,  # of the base model
    models,
    inputs,
    scorers,
    identify,
    record: dict,  # what a repetition needs
    missing: dict[str, str],  # what the report lacks, and why
    overlap,  # as overlap_check.check gives it
):
    """Score all replies, compare the models, write the report and print its first page."""
    opinions = score(models, inputs, scorers, identify, settings.out, settings.part(Asking))
    comparisons = verdicts.compare_neurons(opinions[0].results, settings.margin)
    options = settings.part(report.ReportOptions)
    sections = report.sections(opinions, comparisons, record, missing, config, overlap, options)
    measures = {"settings": record} | numbers.all_measures(opinions, comparisons)
    report.write(settings.out, f"minitox: {settings.model.resolve().name}", sections, measures)
    print_first_page(sections)


def hashes_of(models, base, scorers) -> dict[str, str]:
    """The fingerprint of every model, and the names of the scorers, which have a hash."""
    hashes = {"fluency under": base.fingerprint} if base else {}
    hashes |= {f"model {candidate.name}": candidate.fingerprint for candidate in models}
    return hashes | {"scorer": ", ".join(scorer.name for scorer in scorers)}


def print_header(scorers, left_out: dict[str, str]):
    """Print what scores the replies, and which models and data are left out, and why."""
    for scorer in scorers:
        print(f"{scorer.name}: {scorer.about}")
    for name, reason in left_out.items():
        print(f"left out {name}: {reason}")


def print_end(
    out: Path,
    models: int,  # in the report
    asked,  # names of models
    failed: dict[str, str],
):
    """Print what was written; InputError if the report lacks a model that was asked for."""
    print(f"\nwrote {out / 'report.html'}, report.md and report.json ({models} models)")
    for name, reason in failed.items():
        if name in (*asked, "fluency"):
            raise InputError(f"the report is without {name}: {reason}")


def check_results(out: Path, models, base, inputs, affecting):
    """InputError if there are results of these models that were made with other settings.

    `affecting` gives the settings that a kind of result depends on.
    """
    made_with = {name: affecting(name) for name in (*INPUTS_OF, "human")}
    outputs.lock(out)
    of_models = {candidate.name: candidate.identity for candidate in models}
    of_models["--model"] = base.identity if base else None
    distributed.check_same({"model": of_models, "settings": made_with, "data": inputs.hashes})
    for candidate in models:
        for name in candidate.asked_for:
            folder = INPUTS_OF[name]
            if folder in inputs.hashes:
                values = candidate.identity | made_with[name]
                outputs.check_settings(out / name / candidate.name, values, inputs.hashes[folder])
    check_divergence(out, base, models, inputs, made_with)
    check_fluency(out, base, models, inputs, made_with)


def ask_all(
    models,
    base,  # reads the replies of all
    inputs,
    out: Path,
    asking: Asking,
    shard: bool,
) -> dict[str, str]:
    """Write all replies, answers and likelihoods that no earlier run has written.

    Returns the models that cannot be used, and why; "fluency" if the base model cannot judge it.
    """
    failed = {}
    rows = {candidate.name: inputs.count(candidate, asking.samples) for candidate in models}
    progress = Progress(sum(rows.values()))
    for candidate in models:
        name = candidate.name
        try:
            with candidate.loaded():
                with progress.task(name, rows[name], "rows") as show:
                    files = plan_all(candidate, inputs, out, asking)
                    for done, file in append_batches(files, together=shard):
                        show(done, f": {file.path.parent.parent.name}, {file.path.stem}")
                failed |= measure_divergence(base, candidate, inputs, out, asking, shard)
        except InputError as error:
            failed[name] = str(error)
            progress.print(f"{name}: {error}")
        finally:
            if candidate is not base:  # whose hidden states are for the next model, too
                candidate.kept.clear()

    # the base model reads the replies, to compare them with those of people
    usable = [candidate for candidate in models if candidate.name not in failed]
    return failed | measure_fluency(base, usable, inputs, out, asking, shard)


def remaining(models, failed: dict[str, str]) -> list:
    """The models that have not failed; InputError if all have."""
    usable = [candidate for candidate in models if candidate.name not in failed]
    if not usable:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        raise InputError(f"none of the models can be used: {reasons}")
    return usable


def as_measured(inputs: Inputs, base, models, failed: dict[str, str]) -> Inputs:
    """The inputs without what could not be measured, and the models with a divergence."""
    names = []
    if inputs.clean:
        tuned = compared(base, models)
        names = [candidate.name for candidate in tuned if in_failures(candidate) not in failed]
    human = {} if "fluency" in failed else inputs.human
    return replace(inputs, human=human, compared=names)


def score(models, inputs, scorers, identify, out: Path, asking: Asking):
    """How each scorer scores the replies and the labelled cases; each text is scored once."""
    samples = asking.samples
    rows = len(models) * samples * sum(map(len, inputs.prompts.values()))
    opinions = []
    for scorer in scorers:
        scores = Scores(out / "scores" / f"{scorer.name}.jsonl", scorer)
        # 1) the replies of all models; the scorers after the first change only the scores
        progress = Progress(rows)
        show = partial(progress.show, f"scores by {scorer.name}")
        if opinions:
            judged = opinions[0].results.judged_again(samples, scores, show)
        else:
            judged = results.gather(
                out, models, inputs, scores, identify, samples, asking.seed, show
            )
            progress.clear()
            progress = Progress(inputs.count_xstest_replies(models, samples))
            show = partial(progress.show, f"replies to xstest by {scorer.name}")
            judged.to_xstest = exaggerated_safety.gather(
                out, models, inputs, scores, identify, samples, show
            )
        progress.clear()

        # 2) the labelled cases
        progress = Progress(sum(map(len, inputs.cases.values())))
        show = partial(progress.show, f"cases by {scorer.name}")
        opinions.append(Opinion(scorer, judged, *measure(scores, inputs.cases, show)))
        progress.clear()
    return opinions


def print_first_page(sections):
    """Print the report's summary and effective safety, and what follows."""
    answer, summary, safety = sections[:3]
    for section in (summary, safety):
        print("", section.title, "", page.markdown_table(section), sep="\n")
    # the answer last, without its question
    print("", *summary.paragraphs(), *answer.paragraphs()[1:], sep="\n")


if __name__ == "__main__":
    script.run(main)
