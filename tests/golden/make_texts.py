"""Write the texts that published chat templates make: of chat formats and of guard models.

    python tests/golden/make_texts.py TEMPLATES  # a folder of files NAME.jinja

Needs jinja2. It was run once, on templates as they are published, which are not in this repository;
its output is committed. The templates came from huggingface.js, packages/ollama-utils, which has
collected them from model files (command-r7b: that of Command-R7B-Arabic), and that of
Mistral-7B-Instruct-v0.3 from a public copy. guards/qwen3guard-gen.json was made from the text of
the format in ModelScope's swift.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from minitox.lm import chat  # noqa: E402
from minitox.scorers import guard  # noqa: E402

HERE = Path(__file__).resolve().parent
BOS = {"aya-expanse": "<BOS_TOKEN>", "command-r7b": "<BOS_TOKEN>"}


def main() -> None:
    for path in sorted(Path(sys.argv[1]).glob("*.jinja")):
        text = path.read_text("utf-8")
        special = (("bos_token", BOS.get(path.stem, "<s>")), ("eos_token", "</s>"))
        template = chat.Template(text, special)
        if guard.kind_of(text) is None:
            folder = HERE / "chat"
            texts = chat.template_texts(template)
        else:
            folder = HERE / "guards"
            texts = guard.template_texts(template)
        folder.mkdir(exist_ok=True)
        lines = json.dumps(texts, indent=1, ensure_ascii=False) + "\n"
        (folder / f"{path.stem}.json").write_text(lines, "utf-8")


if __name__ == "__main__":
    main()
