"""The model families, one line each: their built-in models, those to be searched, those to be trained."""

from codesign.hw.errors import ModelError
from codesign.hw.platform.text import nearest
from codesign.models.zoo.bert import BertConfig
from codesign.models.zoo.decoder import DecoderConfig
from codesign.models.zoo.llama import LlamaConfig
from codesign.models.zoo.model_config import ModelConfig, TextConfig
from codesign.models.zoo.resnet import ResnetConfig
from codesign.models.zoo.t5 import T5Config
from codesign.models.zoo.vit import VitConfig

CONFIGURATIONS: tuple[type[ModelConfig], ...] = (
    BertConfig,
    DecoderConfig,
    LlamaConfig,
    T5Config,
    VitConfig,
    ResnetConfig,
)
# Built-in models by name.
FAMILIES: dict[str, ModelConfig] = {
    config.name: config for kind in CONFIGURATIONS for config in kind.sizes()
}
# Families that a search space may be of, by name.
SEARCHED: dict[str, type[ModelConfig]] = {
    kind.family: kind for kind in CONFIGURATIONS if kind.axes()
}
# Those of them that a supernet can be trained for.
TRAINED: dict[str, type[TextConfig]] = {
    name: kind
    for name, kind in SEARCHED.items()
    if issubclass(kind, TextConfig) and kind.trained_options is not None
}


def family(name: str) -> ModelConfig:
    """Return the built-in configuration called `name`; raises ModelError with the nearest names."""
    if name not in FAMILIES:
        raise ModelError(f"no model is called {name!r}: {nearest(name, FAMILIES, most=3)}")
    return FAMILIES[name]
