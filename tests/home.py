"""A small folder in which detect.py and train.py can be run as a user runs them."""

import sys
from pathlib import Path

from safetensors.torch import load_file
from tiny import write_model, write_neurons, write_pairs

from minitox.files import read_json
from minitox.run.neuron_files import FOLDERS

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import detect  # noqa: E402
import train  # noqa: E402


class Home:
    """A folder with a model, and with pairs in two languages."""

    def __init__(self, home: Path):
        self.model = home / "model"
        self.data = home / "data"
        self.out = home / "out"
        write_model(self.model)
        for seed, language in enumerate(("de", "en")):
            write_pairs(self.pair_file(language), 20, seed)

    @property
    def models(self) -> Path:
        return self.out / "models"

    def pair_file(self, language: str) -> Path:
        return self.data / "instructions" / f"{language}.jsonl"

    def neuron_file(self, language: str, by: str = "auroc") -> Path:
        """The file of a selector."""
        return self.out / FOLDERS[by] / f"{language}.safetensors"

    def write_neurons(self) -> None:
        """Neuron files with random AUROCs, in place of a run of detect.py."""
        for seed, language in enumerate(("de", "en")):
            write_neurons(self.neuron_file(language), self.model, seed)

    def arguments(self, *more: str) -> list[str]:
        folders = ["--model", self.model, "--data", self.data, "--out", self.out]
        return [*map(str, folders), "--languages", "de,en", *more]

    def detect(self, *more: str) -> None:
        detect.main(self.arguments(*more))

    def train(self, *more: str) -> None:
        train.main(self.arguments(*more))

    def record(self, model: str) -> dict:
        """The run.json of a model."""
        return read_json(self.models / model / "run.json")

    def weights(self, model: str) -> dict:
        return load_file(self.models / model / "model.safetensors")

    def files(self) -> dict[str, bytes]:
        """The content of every file of every model."""
        contents = {}
        for path in self.models.rglob("*"):
            if path.is_file():
                contents[str(path.relative_to(self.models))] = path.read_bytes()
        return contents
