"""The help texts for each field, number, chart and column: its meaning, its usual range, and when to change it.

Settings use the help texts of simct/config; terms of docs/glossary.md have the same definition as there.
"""

import json

from app.train import fields
from simct.report import facts
from simct.setting import Setting

# by the id of a field, or by its label where it has none
FIELDS = {
    "teacher": "The model that the student learns from. Usual: an instruction-tuned model that is several times "
    "larger than the student. Type part of a name to search the Hub, or give a local folder.",
    "student": "The model that is trained. Usual: 0.1 to 8 billion parameters. Type part of a name to search the Hub, "
    "or give a local folder.",
    "teacher-revision": "Branch, tag or commit of the teacher's repository. Usual: the newest. Choose a commit to "
    "repeat an earlier run exactly.",
    "student-revision": "Branch, tag or commit of the student's repository. Usual: the newest. Choose a commit to "
    "repeat an earlier run exactly.",
    "server-key": "The key that the server asks for. Usual: the key of your account there. It stays in this "
    "studio's memory, only for your runs. Leave it empty if the server needs none.",
    "Task": "The task of the models you search for. Usual: text generation. Change it if a model is listed "
    "under another task, as many models that also read images are.",
    "Size": "How many parameters the models you search for have. Narrow it to what fits your machine.",
    "License": "The license of the models you search for. Set it if you need a particular one.",
    "Access": "Whether the models you search for are open to everyone or gated. For gated models, the authors must "
    "grant access.",
    "Order": "How the list of models is sorted.",
    "inspect-text": "The text that both tokenizers split into tokens. Usual: a paragraph such as the student "
    "will write. Try code, numbers or another language to see where the two differ.",
    "Source": "Where the texts come from. Choose your own file or a dataset if your data differs from the embedded "
    "prompts.",
    "TXT, JSONL, CSV or Parquet": "A file of texts from your computer, up to 200 MB. It stays in this studio.",
    "text-dataset": "The id of a dataset on the Hub, such as openai/gsm8k.",
    "corpus-dataset": "The id of a dataset on the Hub, such as openai/gsm8k.",
    "reliability-dataset": "The id of a dataset on the Hub, such as openai/gsm8k.",
    "prompt-dataset": "A dataset on the Hub. Type part of its name to search. Answers are not needed to distill.",
    "Configuration": "One of the dataset's configurations. Change it if the dataset has several, such as main for "
    "openai/gsm8k.",
    "Split": "The part of the dataset to read. Usual: train.",
    "Column": "The column with the texts. Leave it empty to detect it by name.",
    "Row": "Which row of the data is shown, counted from 0.",
    "At most": "How many texts are read. Usual: 100 to 1,000. More texts take longer and give more reliable numbers.",
    "Color by": "What the colors of the units show: their kind, or a measured number once the models are loaded.",
    "Answers": "How many answers of the student are measured. Usual: 16; use 64 or more for a more reliable verdict.",
    "Tokens per answer, at most": "The longest answer that is measured. Usual: 64 to 256. Raise it if answers contain "
    "long reasoning.",
    "Pairs": "Whether to compare one teacher with several students, or one student with several teachers.",
    "Models": "The models on the other side, at most 12. Each is compared with the model chosen under Pair.",
    "other-pairs-verdicts": "Also measure every pair and recommend a method. This downloads and loads the weights of "
    "each model, so use it for small models or on a machine with a GPU.",
    "prompt-source": "Where the prompts come from: the embedded ones, your own file, or a dataset "
    "on the Hub. A few hundred prompts like those you care about are enough to start with.",
    "prompt-file": "A file of prompts or conversations, one per row. Answers are not needed to distill.",
    "prompt-shown": "Which prompt is shown below, as each model reads it.",
    "preset": "A preset fills in the settings below and keeps your pair and prompts. Start from the one "
    "closest to your machine.",
    "where-form": "On this machine, or on a machine rented from Hugging Face Jobs and paid by the minute.",
    "flavor": "The machine to rent. The list has only machines that are large enough for the run, by the estimate.",
    "namespace": "The account or organization that pays for the Job.",
    "timeout": "The Job ends after this many hours. Usual: twice the estimated time.",
    "spend-limit": "The Job ends before it costs more than this, in US dollars.",
    "confirm-spending": "A Job costs money, so confirm its price before you launch it.",
    "publish-when-finished": "When the run has finished, it pushes its student and a model card to the Hub by itself, "
    "from this machine or from inside its Job. Turn it on for long runs. The Publish step does the same by hand, "
    "after you have looked at the student.",
    "run-yaml": "The settings of this run that differ from the defaults. Save them as run.yaml, and the simct command "
    "runs exactly the same training.",
    "run-command": "The commands that start the same run from a terminal.",
    "run-name": "The run's name in lists. Without a name, lists show the pair.",
    "run-tags": "Words to find runs by, separated by commas. The search field finds them, too.",
    "run-remark": "Your notes: why you made this run, what you saw, what to try next.",
    "share-link": "Anyone with this link can see the run until you withdraw the link. Send it to people who want to "
    "follow the run.",
    "run-comparison-runs": "The runs to compare, two to six. They share one color in every chart.",
    "compare-run": "The run whose student answers.",
    "compare-sides": "The models that answer the prompt. The student before training and the teacher must be loaded "
    "first, and models from the Hub are downloaded for this.",
    "Temperature": "Randomness of the answers. Usual: 0 for the most likely answer, 0.6 to 1 for varied ones.",
    "Tokens at most": "Longest answer, in tokens. Usual: 64 to 512. Raise it if answers are cut off.",
    "compare-picked": "A prompt that this run trained on or was evaluated with. It fills in the field below.",
    "compare-prompt": "What all chosen models answer. Try prompts that the run has not trained on.",
    "chat-model": "The model that answers the next message. It reads the whole conversation in its own chat template, "
    "including what other models wrote.",
    "chat-system": "A text that the model reads before the conversation. Usual: empty, or the system text that the run "
    "trains with.",
    "chat-message": "Your next message. Enter sends it; Shift+Enter starts a new line.",
    "blind-one": "One of the two models whose answers you compare.",
    "blind-other": "The model to compare it with. Usual: the student before training, or the teacher.",
    "blind-prompt": "What both models answer. Usual: prompts that the run has not trained on, at least 20 of them.",
    "set-prompts": "The prompts that every chosen model answers, one per line.",
    "set-sides": "The models that answer the prompts. They are loaded one after another, so more models take longer.",
    "publish-now-what": "Which weights are published after LoRA training. Usual: the merged model, which every "
    "program can load. Choose the adapter if the base model is large and people already have it.",
    "usage-transformers": "Python code that loads the student and asks it a question. Copy it into a file or a "
    "notebook.",
    "usage-vllm": "Commands that serve the student to many users at once, on a machine with a GPU.",
    "usage-repository": "The repository to enter in the Space that converts it.",
    "usage-ollama": "The command that downloads the converted student and starts a chat.",
    "prompt-text": "Your own prompts: one per line, or one per paragraph if there are blank lines, or JSON Lines with "
    "the same columns as a file. Each change is saved as a file of yours.",
    "publish-run": "The finished run whose student is published.",
    "publish-repo": "The repository on the Hub: your account or organization, a slash, and a name. It is created "
    "if it does not exist; a model already there is replaced by a new commit.",
    "publish-now-private": "Who can see the new repository. Usual: private first, and public on the Hub once you have "
    "tried the student. An existing repository keeps its visibility.",
    "publish-now-rollouts": "Also publish the prompts and completions of the run, as a separate dataset. Leave it "
    "off if the prompts are not yours to share.",
    "publish-now-space": "Also publish a Space where people can chat with the student, on free hardware.",
    "publish-token": "An access token with permission to write, from your account's settings on the Hub. It "
    "stays in this page, is never stored, and is used instead of the account stored on this machine.",
    "card-editor": "The model card in Markdown. The metadata for the Hub comes first, between two lines with ---.",
    "documentation-page": "The page of the documentation that is shown below.",
}
# fields of the Data step that are settings of run.yaml
DATA_FIELDS = {
    "prompt-column": "data.column",
    "answer-column": "data.answer_column",
    "prompt-template": "data.template",
    "system-text": "data.system",
    "limit": "data.limit",
    "system-column": "data.system_column",
    "completion-column": "data.completion_column",
    "checker-column": "data.checker_column",
    "excluded-rows": "data.exclude_rows",
    "duplicates": "data.deduplicate",
    "shortest": "data.min_tokens",
    "longest": "data.max_tokens",
    "held-out": "data.held_out",
    "held-out-seed": "data.held_out_seed",
}

# by the label of a number, in lower case; numbers that are not here use the explanation of their tile
NUMBERS = {
    "shared tokens": "Tokens that both vocabularies have, because their bytes are equal. Usual: 20,000 to 120,000. "
    "Every method can compare the models on these.",
    "vocabulary overlap": "Shared tokens divided by all tokens of both vocabularies (Jaccard). Usual: 10% to 70%; 100% "
    "means the same vocabulary. A low number alone does not rule out a pair: what matters is how much of real text "
    "is covered.",
    "of the student's tokens": "The share of the student's vocabulary that the teacher also has. Above 60% is good, "
    "30% to 60% usual across families. Rare tokens count as much as frequent ones here, so look at Matched exactly "
    "under Inspect before you reject a pair.",
    "matched exactly": "Share of the student's tokens in shared units: one token on each side, the same bytes. Usual: "
    "80% to 98% of English text, less for digits, code and other languages.",
    "recovered": "Share of the student's tokens that exact matching loses and SimCT recovers. Usual: 2% to 20%. The "
    "larger it is, the more you gain from a method that uses these units.",
    "not covered": "Share of the student's tokens that are neither matched nor recovered. Usual: below 1%.",
    "candidate mass (z_t)": "The teacher's probability of SimCT's candidates, as a mean over units. Usual: above 90%. "
    "Below 50%, the loss says little about what the teacher wants.",
    "prefix conflicts": "The student's probability of shared tokens that are only the first piece of a more likely "
    "teacher token. Usual: below 2%. If it is higher, use a method that compares text, such as marginal.",
    "hindsight": "The share of the teacher's possible continuations, once its token is written, that belong to a "
    "longer token. Usual: below 5%.",
    "gradient cosine": "The cosine between the gradients of exact matches and of recovered units. Above 0 they help "
    "each other; below 0 they work against each other.",
}

# by the title of a chart
CHARTS = {
    "Student tokens by kind of text": "How many of the student's tokens are matched, recovered or not covered, for "
    "all texts and for each kind. Look for kinds of text with a lot of orange: no method learns anything there.",
    "Vocabularies": "Both vocabularies on one scale; the dark part is shared.",
    "Unit shapes": "How many student and teacher tokens the units have. 1 × 1 is a match; everything else needs a "
    "method that uses units of several tokens.",
    "Where the probability is": "How much of each model's probability each group of tokens has. A group with a small "
    "share teaches the student little.",
    "Candidate mass (Z_T), units": "The teacher's probability of the candidates, unit by unit. Most units should be "
    "near 1.",
    "KL of a unit, nats": "How much the two models disagree on shared and on recovered units. If recovered units "
    "disagree much more, most of what can be learned is in them.",
    "Gradient cosine": "Whether recovered units move the student in the same direction as exact matches. Above 0 they "
    "agree.",
    "Both models on the candidates": "The probability that each model gives to the candidates at this position.",
    "Loss": "The value that training lowers. It should fall and then level off. With smoothing, the bold line is a "
    "moving average. Values of different methods cannot be compared.",
    "KL by kind of unit": "How much student and teacher disagree on shared and on recovered units. Both should fall.",
    "Tokens covered": "Share of the student's tokens that the loss uses. It should stay near its first value; a fall "
    "means that the student now writes different kinds of answers.",
    "Tokens recovered": "Share of the student's tokens that are in recovered units.",
    "Answers": "Ended: answers that stopped by themselves. Canonical: answers in the same tokens that the "
    "tokenizer itself would use. Both should stay high. If few answers end, raise Max new tokens.",
    "Answers that end": "Share of the answers that stopped by themselves. If few do, raise Max new tokens.",
    "Answer length": "Mean length of the student's answers. A steep rise or fall often comes before a "
    "collapse; if you see one, lower the learning rate.",
    "Gradient norm": "The size of the gradient before clipping. Peaks are normal; a steady rise means that the "
    "learning rate is too high.",
    "Speed": "Tokens per second that the student writes, over whole steps: writing, grading and learning.",
    "Memory": "Memory of the training process; on a GPU, memory of all programs together. It should level off.",
    "KL, shared": "How much student and teacher disagree on shared units. It should fall.",
    "KL, recovered": "How much student and teacher disagree on recovered units. It should fall.",
    "Tracked tasks": "The student's scores on the tracked tasks during training.",
    "Prompt length, student's tokens": "How long the prompts are. Prompts that leave no room for the longest "
    "completion are left out.",
    "Prompt length, teacher's tokens": "How long the prompts are for the teacher, whose template and tokens differ.",
}
DISTANCE = (
    "How differently student and teacher rate the same texts, in bits per byte, without labels and with any two "
    "tokenizers. 0 means no difference; it should fall during training. The band is two standard errors."
)
CHARTS |= {
    "Distance to the teacher": DISTANCE,
    "Distance, student to teacher": DISTANCE,
    "Distance, teacher to student": DISTANCE,
}

# by the heading of a column; terms of the glossary have the same definition as there
GLOSSARY = {
    "Teacher": "The model that the student learns from, or one of several.",
    "Student": "The model that is trained.",
    "Pair": "A teacher and a student.",
    "Method": "A way to compare teacher and student across tokenizers, which gives the loss.",
    "Token": "One entry of a vocabulary, with exact bytes unless it is a control token.",
    "Step": "One update of the student's weights.",
    "Prompt": "The text or conversation that a model answers.",
    "Completion": "The tokens that a model writes after a prompt, up to its end of turn or the length limit.",
    "Run": "One training of a student, described by its `run.yaml` and recorded in its run folder.",
    "Verdict": "The recommendation of a method for a pair, in words and with the numbers behind it.",
}
COLUMNS = {
    "Models": "The two models whose answers were compared without their names.",
    "First preferred": "How often the answer of the first model was chosen.",
    "Second preferred": "How often the answer of the second model was chosen.",
    "Ties": "How often neither answer was better.",
    "p": "Two-sided sign test without the ties: how likely such an uneven count is if both models are equally "
    "good. Below 0.05 it counts as a preference, which needs at least six votes.",
    "Part": "What a row provides: a prompt, and possibly an answer, a system text or tools.",
    "Read from": "The columns of your data that this part is read from.",
    "Alternatives": "Other columns that this part could be read from. Choose one below.",
    "Row": "Which row of the data, counted from 1.",
    "Prompt as read": "The prompt made from this row, before the chat templates are applied.",
    "Answer as read": "The reference answer of this row. Distillation does not need one.",
    "Text": "A piece of text that the two tokenizers split differently.",
    "Count": "How often this piece appears in the text.",
    "Mass": "The model's probability of this token here.",
    "As the student spells it": "The student's tokens for the same text.",
    "As the teacher spells it": "The teacher's tokens for the same text.",
    "Kind of text": "Words, digits, code and so on: tokenizers differ most outside plain words.",
    "Student splits": "Units that the teacher writes in fewer tokens.",
    "Teacher splits": "Units that the student writes in fewer tokens.",
    "Both split": "Units with the same number of tokens on both sides, but split differently.",
    "Setting": "The setting's name in run.yaml.",
    "Recommended": "The value that suits this pair, according to the measurement.",
    "Machine": "A type of machine, local or for rent.",
    "GPUs": "How many GPUs the machine has.",
    "Memory": "Memory of one device. The run's peak memory must fit in it.",
    "Fits": "Whether the run's peak memory fits one device.",
    "A step": "Estimated time of one optimizer step with full-length completions.",
    "Time": "Rough estimate of the time for the whole run, without scored tasks.",
    "Cost": "Estimated cost in US dollars at the list price.",
    "An hour": "The price of the machine per hour, in US dollars.",
    "This run, about": "Estimated cost of this run on the machine.",
    "State": "Queued, running, stopping, stopped, failed or finished.",
    "Steps": "Steps done, of all steps.",
    "Mean distance before": "Mean of both directions of the distance to the teacher before training, in bits per byte.",
    "Best mean distance": "The smallest mean of both directions of the distance to the teacher, in bits per byte.",
    "Mean distance after": "The latest mean of both directions of the distance to the teacher, in bits per byte.",
    "Score before": "Score of the run's first task before training.",
    "Best score": "Score of the run's first task at the best checkpoint, if the task is tracked during the run.",
    "Score after": "Score of the run's first task after training, or the latest score if the task is tracked.",
    "Started": "When the run was created.",
    "Project": "The project that the run belongs to. Rename or delete it at the top of the page.",
    "Shared tokens": NUMBERS["shared tokens"],
    "Vocabulary overlap": NUMBERS["vocabulary overlap"],
    "Of smaller vocabulary": "Shared tokens divided by the tokens of the smaller vocabulary.",
    "Matched exactly": NUMBERS["matched exactly"],
    "Recovered": NUMBERS["recovered"],
    "Not covered": NUMBERS["not covered"],
    "Student tokens": "Tokens in units of this kind of text.",
    "Student before": "The student before training.",
    "Student after": "The student after training.",
    "Change": "After minus before, with its standard error. A change within two standard errors may be noise.",
    "Pieces": "The tokens that this text is split into.",
}
# columns whose names come from the data or the runs, by the id of an element around them
PLACES = {
    "data-rows": "A column of your data.",
    "run-comparison": "One of the compared runs; the table above says which.",
    "run-results": "The student at its best checkpoint, by the setting Best by.",
}


def words() -> dict[str, dict[str, str]]:
    """All help texts, by the kind of thing they explain."""
    settings = {fields.elem_id(name): _of_setting(name, setting) for name, setting in fields.SETTINGS.items()}
    data = {field: _of_setting(name, fields.SETTINGS[name]) for field, name in DATA_FIELDS.items()}
    kinds = {name: f"{about[0].upper()}{about[1:]}." for name, about in facts.UNIT_KINDS.values()}
    return {
        "fields": {**settings, **data, **FIELDS},
        "numbers": {**kinds, **NUMBERS},
        "charts": CHARTS,
        "columns": {**GLOSSARY, **COLUMNS},
        "places": PLACES,
    }


def _of_setting(name: str, setting: Setting) -> str:
    """The help text of `simct settings`, the allowed values, and the setting's name in run.yaml."""
    empty = f" Empty: {setting.empty}." if setting.empty else ""
    allowed = f" Allowed: {setting.allowed}." if setting.allowed and len(setting.allowed) < 80 else ""
    default = "" if setting.default in (None, "", [], {}) else f" Default: {_written(setting.default)}."
    return f"{setting.help.rstrip('.')}.{empty}{allowed}{default} In run.yaml: {name}."


def _written(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def script() -> str:
    """The texts as a script element in the page's head, for help.js."""
    held = json.dumps(words(), ensure_ascii=False).replace("</", "<\\/")
    return f"<script>window.studio ??= {{}}; window.studio.helpWords = {held};</script>"
