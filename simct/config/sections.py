"""The sections of a run about models, prompts and rollouts; simct.config.optimization and evaluation have the others.

Each setting has its type, default, limits, label and help here. Lengths are in the student's tokens.
"""

from typing import Any

from pydantic import model_validator

from simct.setting import Section, setting

DTYPES = ("auto", "float32", "bfloat16", "float16")
QUANTIZATIONS = ("8bit", "4bit")
ENGINES = ("transformers", "vllm")
CHECKERS = ("none", "text", "number", "maths", "code")
DUPLICATES = ("exact", "normalized")

# Upper limits, so that a typo cannot fill a disk or a machine's memory.
NAME_CHARACTERS, PROSE_CHARACTERS = 4096, 50_000
MOST_TOKENS, MOST_AT_ONCE = 10_000_000, 65_536
# the most entries of a list in run.yaml, and the most rows that are remembered for one reason
MOST_EXCLUDED = 2000
MOST_STEPS, MOST_EPOCHS = 100_000_000, 10_000
LARGEST_SEED = 2**32 - 1


class ModelConfig(Section):
    """A causal language model: Hub id or local folder. A text instead of a mapping is used as `model`."""

    model: str = setting(
        "Model",
        "",
        "A causal language model: its id on the Hub, or a local folder.",
        allowed="a Hub id or a local folder",
        max_length=NAME_CHARACTERS,
    )
    revision: str | None = setting(
        "Revision",
        None,
        "Commit, tag or branch of the Hub repository. Give a commit to repeat a run exactly.",
        empty="the newest",
        max_length=NAME_CHARACTERS,
    )
    dtype: str = setting(
        "Precision",
        "auto",
        "Number format of the weights. Usual: auto, which keeps a teacher in 16 bits if the device computes in them, "
        "and trains a student in float32, because 16 bits round small updates away.",
        choices=DTYPES,
    )
    enable_thinking: bool | None = setting(
        "Thinking",
        None,
        "Whether the chat template lets the model think before it answers, if it offers both.",
        empty="the template's own",
    )
    quantization: str | None = setting(
        "Quantization",
        None,
        "Load the weights in 8 or 4 bits, with bitsandbytes. Use it for a teacher that does not fit next to its "
        "student, or for a student trained with LoRA.",
        choices=QUANTIZATIONS,
        empty="none",
    )
    device: str | None = setting(
        "Device",
        None,
        "Where this model is placed, such as cuda:1 or cpu. Use it to put the teacher on another GPU; auto spreads it "
        "over all GPUs of one process.",
        empty="with the student",
        max_length=100,
    )
    sharded: bool = setting(
        "Sharded",
        False,
        "Split the teacher over all processes, gathering each layer while it runs. For a teacher larger than a GPU.",
    )
    offload: bool = setting(
        "Offloaded",
        False,
        "Keep the teacher in CPU memory and move each layer to the GPU only while it is used. Use it for a teacher "
        "that does not fit next to the student.",
    )
    chat_template: str | None = setting(
        "Chat template",
        None,
        "Name of the chat template to use. Set it if the tokenizer has several.",
        empty="the one called default",
        max_length=NAME_CHARACTERS,
    )
    server: str | None = setting(
        "Server",
        None,
        "Address of a server with the teacher, such as https://example.com. It must be OpenAI-compatible and support "
        "prompt_logprobs, as vLLM does. The model is then used only for its tokenizer and template.",
        empty="the weights are loaded here",
        max_length=NAME_CHARACTERS,
    )
    top_logprobs: int = setting(
        "Listed tokens",
        64,
        "How many log-probabilities a server lists, or `simct teach` stores, at each position. Usual: 16 to 256; more "
        "are more exact but take more space.",
        ge=1,
        le=1_000_000,
    )
    scores: str | None = setting(
        "Stored scores",
        None,
        "Folder from `simct teach` with the teacher's scores of the data's completions. The run needs no teacher then.",
        empty="the teacher scores during the run",
        max_length=NAME_CHARACTERS,
    )
    price_per_million_tokens: float | None = setting(
        "Server price",
        None,
        "Price of the server for a million tokens, in dollars. Set it to see the cost of a run.",
        empty="unknown",
        ge=0,
        le=1e6,
    )
    system: str | None = setting(
        "System text",
        None,
        "A system text that only the teacher reads, before the data's own. Use it to teach the student what the "
        "teacher does only with instructions.",
        empty="none",
        max_length=PROSE_CHARACTERS,
    )

    @property
    def elsewhere(self) -> bool:
        """Whether the model's weights are loaded elsewhere."""
        return bool(self.server or self.scores)

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value


class DataConfig(Section):
    """Where prompts come from: a JSONL/CSV/Parquet file, a folder, or a Hub dataset id."""

    prompts: str = setting(
        "Prompts",
        "",
        "A JSONL, CSV or Parquet file, a folder, or the id of a dataset on the Hub. Answers are not needed to distill.",
        allowed="a prompts file or a Hub dataset id",
        required=True,
        max_length=NAME_CHARACTERS,
    )
    split: str = setting("Split", "train", "Split of the Hub dataset.", max_length=NAME_CHARACTERS)
    config_name: str | None = setting(
        "Configuration",
        None,
        "Configuration of the Hub dataset, if it has several, such as main for openai/gsm8k.",
        empty="the only one",
        max_length=NAME_CHARACTERS,
    )
    revision: str | None = setting(
        "Revision",
        None,
        "Commit, tag or branch of the Hub dataset. Give a commit to repeat a run exactly.",
        empty="the newest",
        max_length=NAME_CHARACTERS,
    )
    column: str | None = setting(
        "Prompt column",
        None,
        "Column with the prompts or messages. Set it if the column has an unusual name.",
        empty="found by name",
        max_length=NAME_CHARACTERS,
    )
    answer_column: str | None = setting(
        "Answer column",
        None,
        "Column with the reference answers, for scores and for the warm-up's checks.",
        empty="found by name",
        max_length=NAME_CHARACTERS,
    )
    system: str | None = setting(
        "System prompt",
        None,
        "System message for every prompt that has none.",
        empty="none",
        max_length=PROSE_CHARACTERS,
    )
    limit: int | None = setting(
        "Prompt limit",
        None,
        "Use only this many prompts, the first ones. Set it for a quick look.",
        empty="all prompts",
        ge=1,
        le=1_000_000_000,
    )
    exclude_rows: list[str] = setting(
        "Excluded rows",
        [],
        "Rows of the data to leave out, counted from 1: numbers and ranges, such as 7, 20-29.",
        empty="none",
        max_length=MOST_EXCLUDED,
    )
    deduplicate: str | None = setting(
        "Duplicates",
        None,
        "Leave out repeated prompts: exact copies only, or normalized, which ignores case and spacing. "
        "Use it if many prompts repeat.",
        choices=DUPLICATES,
        empty="duplicates are kept",
    )
    min_tokens: int | None = setting(
        "Shortest prompt",
        None,
        "Leave out prompts with fewer tokens, chat template included, in either model's tokens.",
        empty="no limit",
        ge=1,
        le=MOST_TOKENS,
    )
    max_tokens: int | None = setting(
        "Longest prompt",
        None,
        "Leave out prompts with more tokens, chat template included, in either model's tokens. Lower it if a few "
        "long prompts need much memory.",
        empty="all prompts that leave room for an answer",
        ge=1,
        le=MOST_TOKENS,
    )
    held_out: int = setting(
        "Held-out prompts",
        64,
        "Prompts to keep out of training, for the distance to the teacher: at most a tenth of the data. 0: none.",
        ge=0,
        le=MOST_AT_ONCE,
    )
    held_out_seed: int = setting(
        "Held-out seed",
        0,
        "A different number holds out different prompts. The choice depends only on it and on the prompts' text.",
        ge=0,
        le=LARGEST_SEED,
    )
    held_out_prompts: str | None = setting(
        "Held-out source",
        None,
        "A separate file or dataset for the held-out prompts. The run does not train on prompts in it.",
        empty="part of the data",
        max_length=NAME_CHARACTERS,
    )
    held_out_split: str | None = setting(
        "Held-out split",
        None,
        "Split of the held-out prompts, such as test, if the dataset has one.",
        empty="part of the data",
        max_length=NAME_CHARACTERS,
    )
    template: str | None = setting(
        "Prompt template",
        None,
        "Text of every prompt, with columns in braces, such as {instruction} {input}; {{ and }} stand for braces. Use "
        "it if a prompt is made from several columns.",
        empty="the prompt column's text",
        max_length=PROSE_CHARACTERS,
    )
    system_column: str | None = setting(
        "System column",
        None,
        "Column with the system text of each row. Set it if the column has an unusual name.",
        empty="found by name",
        max_length=NAME_CHARACTERS,
    )
    completion_column: str | None = setting(
        "Completion column",
        None,
        "Column with whole completions, for rollout.dataset_fraction. Set it if they are not the answers.",
        empty="the reply in the conversation, else the answer",
        max_length=NAME_CHARACTERS,
    )
    teacher_column: str | None = setting(
        "Teacher column",
        None,
        "Column whose value chooses the teacher of each row, by the routes of `teachers`, such as math or code.",
        empty="all teachers grade every row",
        max_length=NAME_CHARACTERS,
    )
    checker_column: str | None = setting(
        "Checker column",
        None,
        "Column that names the checker of each row in a warm-up, for mixed data, such as maths and code.",
        empty="warmup.checker for all rows",
        max_length=NAME_CHARACTERS,
    )


class RolloutConfig(Section):
    """How the student writes (paper, Table 4: temperature 0.6, top-p 0.95)."""

    max_new_tokens: int = setting(
        "Max new tokens",
        128,
        "Longest completion, in tokens. Usual: 128 to 2,048; raise it if many completions are cut off.",
        ge=1,
        le=MOST_TOKENS,
    )
    temperature: float = setting(
        "Temperature",
        0.6,
        "Randomness of the completions. Usual: 0.6 to 1; raise it if they are all alike.",
        gt=0,
        le=100,
    )
    top_p: float = setting(
        "Top-p",
        0.95,
        "Sample from the most likely tokens with this total probability. Usual: 0.95; 1 is the whole distribution.",
        gt=0,
        le=1,
    )
    top_k: int | None = setting(
        "Top-k",
        None,
        "Sample from the k most likely tokens only. Usual: empty, or 20 to 100.",
        empty="all tokens",
        ge=1,
        le=10_000_000,
    )
    min_p: float = setting(
        "Min-p",
        0.0,
        "Leave out tokens less likely than this share of the most likely one. Usual: 0, or 0.02 to 0.1 at high "
        "temperatures.",
        ge=0,
        le=1,
    )
    repetition_penalty: float = setting(
        "Repetition penalty",
        1.0,
        "Makes tokens that were read or written before less likely. Usual: 1 (off); 1.05 to 1.2 if completions repeat "
        "themselves.",
        gt=0,
        le=100,
    )
    samples_per_prompt: int = setting(
        "Samples per prompt",
        1,
        "Completions of each prompt in a step. Usual: 1; more if prompts are few.",
        ge=1,
        le=MOST_AT_ONCE,
    )
    on_policy_fraction: float = setting(
        "On-policy share",
        1.0,
        "Share that the student writes; the teacher writes the rest. Lower it while the student writes nothing useful.",
        ge=0,
        le=1,
    )
    dataset_fraction: float = setting(
        "Dataset's share",
        0.0,
        "Share of completions taken from the data; the teacher writes what remains. Use it if the data has good "
        "completions.",
        ge=0,
        le=1,
    )
    batch_size: int | None = setting(
        "Written at once",
        None,
        "Completions to write at once; limits the KV cache. Lower it if memory runs out while writing.",
        empty="all completions of a process",
        ge=1,
        le=MOST_AT_ONCE,
    )
    engine: str = setting(
        "Engine",
        "transformers",
        "The engine that writes the completions. Use vllm on a GPU if writing takes most of a step.",
        choices=ENGINES,
    )
    vllm_url: str | None = setting(
        "vLLM server",
        None,
        "Address of a vLLM server that writes for all processes.",
        empty="vLLM in the training process",
        max_length=NAME_CHARACTERS,
    )
    vllm_memory: float = setting(
        "vLLM memory", 0.3, "Share of the GPU's memory for vLLM next to the trainer. Usual: 0.2 to 0.5.", gt=0, lt=1
    )
    ahead: bool = setting(
        "Write ahead",
        False,
        "vLLM writes the next step's completions while the current step trains, with weights that are one step old.",
    )

    @property
    def teacher_fraction(self) -> float:
        """The share of completions that the teacher writes: the remainder after the student and the dataset."""
        rest = 1 - self.on_policy_fraction - self.dataset_fraction
        return rest if rest > 1e-9 else 0.0
