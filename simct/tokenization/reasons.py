"""The reasons why the teacher cannot spell a completion of the student, as reports name them."""

SPECIAL_INSIDE = "special token inside the completion"
BEYOND_VOCABULARY = "token id beyond the student's tokenizer"
TEACHER_CANNOT_SPELL = "text the teacher's vocabulary cannot spell"
