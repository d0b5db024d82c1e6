"""What a worker would find in the embedded pair, as constants, so that the first page does not wait for a worker."""

from app.reading.records import ModelReading, PairReading
from simct import demo

MODELS = {
    str(demo.TEACHER): ModelReading("llama", "byte-level BPE", 900, size=2_122_504),
    str(demo.STUDENT): ModelReading("llama", "byte-level BPE", 950, size=1_215_496),
}
SIDES = tuple(MODELS)
PAIR = PairReading(shared_tokens=746, jaccard=746 / (900 + 950 - 746))
