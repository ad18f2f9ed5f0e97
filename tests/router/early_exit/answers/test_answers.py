r"""What counts as an answer, and which answers are the same: the table that `find_answer` and `same_answer` keep to."""

import re
from fractions import Fraction
from functools import cache

import babel
import pytest
from babel.numbers import format_decimal
from hypothesis import given
from hypothesis import strategies as st

from router.early_exit import Answer, AnswerKind, find_answer, same_answer
from router.early_exit.answers.extraction import MAX_TEXT


def normal_of(text: str) -> str | None:
    """The normal form of the answer that a text gives."""
    answer = find_answer(text)
    return None if answer is None else answer.normal


# A short answer -> its kind and normal form. Each stands after "The answer is" and in a box.
READ = {
    "choice": {
        "B": ["B", "b", "(b)", "B.", "B)", "B:", "option B", "Choice b", "B. the second", "B because it is", "**B**"],
        "A": [r"\text{A}", r"\textbf{(A)}", "A, since it is largest", "option (A)"],
    },
    "number": {
        "1000": ["1,000", "1000", "1000.0", "+1000", r"1{,}000", r"1\,000", "1 000", "1'000", "1’000", "10^3", "10**3",
            "1e3",
            "10³"],
        "0.5": ["1/2", "0.5", ".5", r"\frac{1}{2}", r"\dfrac12", "2/4", "½", "5*10^{-1}", r"5 \times 10^{-1}"],
        "2.5": ["5/2", "2 1/2", "2½", r"2\frac{1}{2}", r"\frac{5}{2}", "2.50"],
        "2/3": ["4/6", r"\frac{2}{3}", r"\tfrac{4}{6}", "⅔"],
        "-3": ["-3", "\u22123", "negative 3", "minus 3", "- 3", "negative three", "$-3$", "－3"],
        "18": ["18", "18 eggs", "x = 18", "$18", "18 dollars", r"\$18", "€18", "about 18", "18.", "eighteen",
            "18 in total"],
        "1234567.5": ["1,234,567.50", "12,34,567.5", "1.234.567,5", "1 234 567.5", "1'234'567.5"],
        "1000000": ["1 million", "one million", "1,000 thousand", "10 lakh", "a total of 1 million",
            "1000000 people", "$1M"],
        "36": ["3 dozen", "thirty-six", "36°", r"36^\circ", "36 degrees", "36%", r"36\%", "36 percent"],
        "205": ["two hundred and five", "205", "２０５", "٢٠٥"],
        "0.5 %": ["0.5%", "0.5 percent", "1/2 percent"],
        "3600 s": ["1 hour", "60 minutes", "1 h", "60 min", "3,600 seconds", r"1\text{ hour}"],
        "5000 m": ["5 km", "5km", r"5\text{ km}", r"5\,\mathrm{km}", "5,000 metres", "5000 m"],
    },
    "interval": {
        ">=5": ["at least 5", "no less than 5", "5 or more", ">= 5", r"\ge 5", "≥5", "not fewer than five"],
        "<=5": ["at most 5", "no more than 5", "up to 5", "5 or fewer", r"\leq 5"],
        "<5": ["less than 5", "fewer than 5", "under 5", "< 5"],
        ">5": ["more than 5", "over 5", "greater than 5"],
        "(2,5)": ["(2,5)", "(2, 5)", r"\left(2, 5\right)", "( 2 , 5 )", "(2;5)", "(2, 10/2)"],
        "[2,5)": ["[2,5)", "[2, 5)", r"\left[2,5\right)"],
        "(1000,2000]": ["(1,000, 2,000]", "(1000,2000]"],
        "(-inf,3)": [r"(-\infty, 3)", "(-∞,3)"],
    },
    "list": {
        "1,2": ["1, 2", "1 and 2", "1,2"],
        "1,2,3": ["1, 2, 3", "1, 2 and 3", "1, 2, and 3"],
        "{1,2}": [r"\{1,2\}", r"\{2, 1\}", r"\{1, 2, 2\}"],
        "A,C": ["A and C", "A, C", "C and A", "both A and C", "(A) and (C)"],
    },
    "expression": {
        "2a": ["2a", "$2a$"],
        "x^2+1": ["x^2 + 1", "x^{2}+1", "$x^2+1$", "x²+1"],
        "sqrt(2)/2": [r"\frac{\sqrt{2}}{2}", r"\sqrt{2}/2"],
    },
    "text": {
        "paris": ["Paris", "paris.", "**Paris**", " PARIS ", r"\text{Paris}", '"Paris"'],
        "st. louis": ["St. Louis", "St. Louis."],
        "j. k. rowling": ["J. K. Rowling", r"\text{J. K. Rowling}"],
        "yes": ["Yes", "yes.", "Yes, because it is", "**Yes**"],
        "no. 5": ["No. 5"],
        "half of 5": ["half of 5"],
    },
}  # fmt: skip


@pytest.mark.parametrize("where", ["The answer is {}", "We add.\nFinal answer: {}\n", r"So: \boxed{{{}}}.", "#### {}"])
@pytest.mark.parametrize(
    ("kind", "normal", "spelling"),
    [(kind, normal, each) for kind, rows in READ.items() for normal, row in rows.items() for each in row],
)
def test_readings(where: str, kind: str, normal: str, spelling: str) -> None:
    found = find_answer(where.format(spelling))
    assert found is not None
    assert (found.kind, found.normal) == (kind, normal)


# Whole texts -> the normal form, None where no vote can be sure.
EXTRACTED = {
    r"So it is \boxed{42}.": "42",
    r"First \boxed{1}, then \boxed{\frac{3}{4}}": "0.75",
    r"An open \boxed{7 and the answer is 8.": "8",
    "The answer is 1,234.50 dollars.": "1234.5",
    "It is (B), since (A) is wrong; so (B)": "B",
    "Hence:\nC. the third": "C",
    "He had 3 apples, then 5, in all 8": "8",
    "The answer to the question is 5.": "5",
    "The answer is 4. But no, the answer is 5.": "5",
    "The answer is 5, which is more than 4.": "5",
    "The answer is B, which is the largest.": "B",
    "The answer is Dr. No.": "dr. no",
    "Es sind insgesamt 3,5": "3,5",
    "Die Antwort ist 1.234,5.": "1234.5",
    "Die Antwort ist 1.234.": "1.234",
    "Die Antwort ist 1,234.": "1,234",
    "Die Antwort ist 1.234.567.": "1234567",
    "in all 12 34 567": None,
    "La réponse est 3,5 m.": "3.5 m",
    "Ответ: 12": "12",
    "答えは7です。": "7",
    "정답은 7입니다.": "7",
    "答案是3万": "30000",
    "答案是三": "三",
    "so there are 10^3 of them": "1000",
    "in all 5 million": "5000000",
    "it makes negative 3": "-3",
    "there must be at least 5": ">=5",
    "which leaves half of 5": None,
    "which leaves 5 squared": None,
    "the points are 2 and 3": "2,3",
    "it is (2, 3)": "(2,3)",
    "it is [2, 3)": "[2,3)",
    "so f(5)": None,
    "version 5.5.5": None,
    'The answer is "B".': "B",
    "\\boxed{" + "long " * 500 + "}": None,
    "The answer is one": "1",
    "We add:\n1. first\n2. second": None,
    "see step 3": None,
    "He studied worms.\nC. elegans is one.": "C",
    "**The answer** is **5**": "5",
    "that is 5 less than 10": None,
    "that is 5 boys and 10 girls": None,
    "The answer is 5 boys and 10 girls.": "5 (boys),10 (girls)",
    "Answer: Let's think step by step.\n2 + 2 = 4": "4",
    "Answer:\nWe add the numbers.": None,
    "it is *5*": "5",
    "The answer is 5 *300": "5*300",
    "that is 3 out of 6": None,
    "this isn't 5": None,
    "gives $\\frac{x}{2}$": None,
    "gives 2x+1": None,
    "it is $5 \\pm 1$": None,
    "in 1837 it grew" + " and grew" * 30: None,
    "(A) red (B) blue (C) green": None,
    "A. red\nB. blue\nC. green": None,
    "we meet at 12:30": "12:30",
    "we meet at 12:30 PM": None,
    "go to room 2a": "2a",
    "it lasts 2 hours": "7200 s",
    "The answer is as follows:\n\n5": "5",
    "The answer is the sum of both.": None,
    "The answer is given below.": None,
    "nothing here": None,
    "": None,
}


@pytest.mark.parametrize(("text", "normal"), EXTRACTED.items())
def test_extraction(text: str, normal: str | None) -> None:
    assert normal_of(text) == normal


# Answers of one row are all different, whether they are stated, boxed or end a text.
DIFFERENT = [
    ["1 million", "1 billion", "1 thousand", "1 dozen", "1", "1 trillion"],
    ["1.5M", "1.5", "1.5k", "1.5B", "$1.5M", "$1.5B", "$1.5"],
    ["3", "negative 3", "±3", "3!", "3i", "3%!"],
    ["5", "at least 5", "at most 5", "less than 5", "more than 5", "not 5", "half of 5", "twice 5", "5 squared",
        "5 or 6"],
    ["5", "5 and a half", "5 times 3", "5 to 6", "5-6", "5 or more", "5 out of 6", "5 per day", "5th",
        "between 5 and 6"],
    ["2a", "2b", "2t", "2", "2x", "2m", "2 m", "2a^2"],
    ["J. K. Rowling", "J. R. R. Tolkien", "J. Rowling", "J. Tolkien", "J"],
    ["C. Lewis", "C. Darwin", "C. elegans", "C. difficile"],
    ["H. pylori", "H. influenzae", "H"],
    ["10**3", "10**2", "103", "10 * 3"],
    ["World War I", "World War II"],
    ["B12", "B6", "B+", "B-", "B"],
    ["12_8", "12_{10}", "12"],
    ["St. Louis", "St. Petersburg", "St. Paul", "Mt. Everest", "Mt. Fuji"],
    ["No. 5", "No. 7", "no", "5", "7"],
    ["10^3", "10^2", "10", "3", "2^10", "10^{-3}", "10³¹"],
    ["1,2", "1,3", "1", "2", "3", "1, 2, 3", "2, 1"],
    ["1 hour", "1 minute", "1 second", "1 day", "1 week"],
    ["5 km", "5 m", "5 cm", "5 kg", "5 g", "5 miles", "5 m^2", "5 m^3", "5 cm^2"],
    ["5 MB", "5 GB", "5 KB", "5 TB"],
    ["5 eggs", "5 ducks", "5 boys", "$5", "€5", "£5", "5 cents", "5%", "5 hours"],
    ["20°C", "20°F", "20 K", "20 radians", "20 degrees"],
    ["x = 5", "y = 5"],
    ["x > 5", "x < 5", "x = 5", "x >= 5", "x != 5"],
    ["(2,5)", "[2,5]", "[2,5)", "(2,5]", "(5,2)", r"\{2,5\}", "]2,5["],
    ["0.5", "0.5%", "5%", "0.05", "50"],
    ["1/3", "0.33", "0.333", "0.3333333333"],
    ["1/2", "1 1/2", "11/2", "½1"],
    ["12:30", "12:45", "12"],
    ["3:4", "3/4", "3", "4"],
    ["x^2", "x_2", "x2", "2x", "x^{21}", "x^21 + 1"],
    [r"\frac{x}{2}", r"\frac{x+1}{2}", r"x+\frac{1}{2}", r"\frac{2}{x}"],
    [r"\sqrt{2}", "2", r"\sqrt{3}", r"\sqrt[3]{2}", r"2\sqrt{2}"],
    [r"\pi", r"2\pi", r"\frac{\pi}{2}", r"\pi^2", "e"],
    ["A", "B", "A and B", "A or B", "neither A nor B", "not A", "A + B"],
    ["Paris", "London", "Paris, Texas", "not Paris", "Paris and London", "Paris or London"],
    ["yes", "no", "yes and no", "not yes", "no more than 5"],
    ["5.10", "5.11", "5.1.0"],
    ["5 for every 3", "5 for every 4", "5 as a fraction of 8", "5"],
    ["B for Alice and D for Bob", "B for Alice and C for Bob", "B"],
    ["5 boys and 10 girls", "6 boys and 10 girls", "10 girls", "5 boys"],
    ["2024-05-01", "2024-05-02", "2024", "May 5, 2024", "May 5, 2023"],
    ["1.234", "1,234", "1.234,5", "12.34"],
    ["AB", "BA", "A B"],
    ["-2^2", "2^2", "-4"],
    ["5 years old", "5 years ago", "5 years", "5"],
    ["log_2 8", "log_28", "log 28"],
    ["5 less", "5 more", "5 plus", "5 modulo 3", "5"],
    ["a third", "a quarter", "3 quarters", "3 thirds", "3"],
]  # fmt: skip


def _of(form: str, answers: list[str]) -> list[Answer | None]:
    return [find_answer(form.format(each)) for each in answers]


@pytest.mark.parametrize("form", ["The answer is {}.", r"\boxed{{{}}}", "Answer: {}"])
@pytest.mark.parametrize("row", DIFFERENT, ids="|".join)
def test_different_answers(form: str, row: list[str]) -> None:
    found = _of(form, row)
    equal = [
        (row[i], row[j])
        for i, a in enumerate(found)
        for j, b in enumerate(found[:i])
        if a is not None and b is not None and same_answer(a, b) and bool(a.subject) == bool(b.subject)
    ]
    assert not equal


@pytest.mark.parametrize(
    "row",
    [
        ["1 million", "1 billion", "1"],
        ["3", "negative 3"],
        ["5", "at least 5", "at most 5", "less than 5", "half of 5", "twice 5", "5 squared", "5 or 6"],
        ["2a", "2b", "2"],
        ["10^3", "10^2", "10"],
        ["1, 2", "1, 3", "1", "3"],
        ["(1, 2)", "(1, 3)"],
        ["1 hour", "1 minute", "1 week"],
        ["5 km", "5 m", "5 kg"],
        ["1/3", "2/3", "3"],
        ["5 eggs", "5 ducks"],
        ["$5", "5 cents", "€5"],
        ["20°C", "20°F"],
        ["12:30", "12:45"],
        ["x^2", "x^3"],
        [r"\sqrt{2}", r"\sqrt{3}", "2"],
        ["5 to 6", "4 to 6", "6"],
    ],
    ids="|".join,
)
def test_different_ends_of_a_text(row: list[str]) -> None:
    test_different_answers("After all that we get {}", row)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("18", "18 eggs", True),
        ("18 eggs", "18 ducks", False),
        ("1 egg", "1 eggs", True),
        ("x = 5", "5", True),
        ("50%", "50", True),
        ("0.5%", "0.5", False),
        ("1 hour", "1", False),
        ("B. Paris", "B", True),
        ("B. Paris", "B. London", False),
    ],
)
def test_what_a_number_is_of(a: str, b: str, same: bool) -> None:
    one, other = _of("The answer is {}", [a, b])
    assert one is not None
    assert other is not None
    assert same_answer(one, other) == same_answer(other, one) == same


# ---- cases of tests/cases/public.yaml


def normals(*texts: str) -> list[str | None]:
    return [normal_of(text) for text in texts]


def differ(*texts: str) -> bool:
    found = [find_answer(text) for text in texts]
    assert all(found), "each is an answer"
    return not any(same_answer(a, b) for i, a in enumerate(found) for b in found[:i] if a and b)


@pytest.mark.case("5.initials")
def test_public_case_initials_are_no_choices() -> None:
    assert normals("The answer is J. K. Rowling.", r"\boxed{J. K. Rowling}") == ["j. k. rowling"] * 2
    assert differ("The answer is J. K. Rowling.", "The answer is J. R. R. Tolkien.", "The answer is J.")
    assert normal_of("He wrote many.\nC. S. Lewis wrote Narnia.") is None


@pytest.mark.case("5.statements_one_line")
def test_public_case_the_last_statement_of_a_line_counts() -> None:
    texts = ("The answer is 4. But no, the answer is 5.", "First I thought the answer is 3, actually the answer is 7.")
    assert normals(*texts) == ["5", "7"]


@pytest.mark.case("5.million", "5.negative_word", "5.at_least", "5.letters", "5.unit_scale")
def test_public_case_words_that_change_a_value_are_not_dropped() -> None:
    assert differ(*(f"The answer is {each}." for each in ("1 million", "1 billion", "2.5 thousand", "1.5M", "3 dozen")))
    assert normals("The answer is 2.5 thousand.") == ["2500"]
    assert differ("The answer is negative 3.", "The answer is 3.")
    assert differ(*(f"The answer is {each}." for each in ("at least 5", "less than 5", "no more than 5", "5")))
    assert differ("The answer is 2a.", "The answer is 2b.", r"\boxed{2t}", "The answer is 2.")
    assert differ("The answer is 1 hour.", "The answer is 1 minute.")
    assert differ("The answer is half of 5.", "The answer is twice 5.", "The answer is 5.")


@pytest.mark.case("5.latex_thousands", "5.nbsp_thousands", "5.decimal_comma", "5.fullwidth")
def test_public_case_numbers_as_they_are_written() -> None:
    latex = (r"\boxed{9{,}500}", "The answer is $9{,}500$.", "so it makes $9{,}500$ in all", r"\boxed{9\,500}")
    spaces = ("The answer is 9\u00a0500.", "The answer is 9\u202f500.", "in all 9\u00a0500", "The answer is 9 500.")
    assert normals(*latex, *spaces) == ["9500"] * 8
    assert normals("Die Antwort ist 3,5.", "insgesamt 3,5", "The answer is 3,5.") == ["3.5", "3,5", "3,5"]
    wide = ("The answer is ４２.", r"\boxed{７}", "The answer is (Ｂ).", "（B）", "in all ４２")
    assert normals(*wide) == ["42", "7", "B", "B", "42"]


@pytest.mark.case("5.choice_because", "5.bare_letter")
def test_public_case_a_letter_is_a_choice() -> None:
    because = ("B because it is largest", "B, because it is largest", "B - the mitochondria")
    assert normals(*(f"The answer is {each}." for each in because)) == ["B"] * 3
    assert normals("The correct answer choice is B.", "Option B is correct.") == ["B"] * 2
    assert normals("B", "b", "Let me think.\n\nB", "B.", "B)") == ["B"] * 5


@pytest.mark.case("5.abbreviations")
def test_public_case_an_abbreviation_ends_no_statement() -> None:
    names = ("St. Louis", "St. Petersburg", "Mt. Everest", "No. 5", "No. 7", "Roe vs. Wade", "approx. 5")
    assert differ(*(f"The answer is {each}." for each in names))
    assert normals("The answer is approx. 5.") == normals("The answer is 5.") == ["5"]


@pytest.mark.case("5.languages")
def test_public_case_statements_in_other_languages() -> None:
    texts = ("Antwort: 7. Das sind 3 mehr als vorher.", "La respuesta es 7, es decir 3 más que 4.", "答案是7。")
    assert normals(*texts, "答案是12", "答案：B", "最终答案是 42。") == ["7", "7", "7", "12", "B", "42"]


@pytest.mark.case("5.interval_spaces")
def test_public_case_spaces_in_an_interval() -> None:
    one, other = find_answer(r"\boxed{(2,5)}"), find_answer(r"\boxed{(2, 5)}")
    assert one is not None
    assert one == other


# ---- any text


@cache
def spellings(value: float) -> frozenset[str]:
    """A number in every locale."""
    return frozenset(format_decimal(value, locale=each) for each in babel.localedata.locale_identifiers())


@pytest.mark.slow
@pytest.mark.parametrize("value", [1234567.5, 1234567, -1234567, 9500, 3.5, 1234.567])
@pytest.mark.parametrize("form", ["The answer is {}.", "Die Antwort ist {}.", "\\boxed{{{}}}", "which makes {}"])
def test_numbers_of_every_locale_are_read_right_or_as_no_number(value: float, form: str) -> None:
    """As CLDR has them. Where 9.500 is 9500, only the language can say so: such readings stay 9.5,
    and 9,500 is 9500."""
    for spelled in spellings(value):
        found = find_answer(form.format(spelled))
        if (
            found is not None
            and found.kind is AnswerKind.NUMBER
            and not re.fullmatch(r"-?[0-9]{1,3}\.[0-9]{3}", spelled)
        ):
            assert Fraction(found.normal) == Fraction(str(value)), spelled


@given(st.text(max_size=300))
def test_any_text_is_read(text: str) -> None:
    for each in (text, f"The answer is {text}", f"\\boxed{{{text}}}"):
        found = find_answer(each)
        assert found is None or found.normal
        assert found is None or same_answer(found, found)


@given(st.integers(-(10**12), 10**12), st.sampled_from([",", " ", "\u202f", "'", r"\,", "{,}"]))
def test_thousands(value: int, mark: str) -> None:
    spelled = f"{value:,}".replace(",", mark)
    assert normal_of(f"The answer is {spelled}.") == normal_of(rf"\boxed{{{value}}}") == str(value)


@given(st.fractions(max_denominator=10**6), st.fractions(max_denominator=10**6))
def test_numbers_are_the_same_when_their_values_are(a: object, b: object) -> None:
    one, other = _of(r"\boxed{{{}}}", [str(a), str(b)])
    assert one is not None
    assert other is not None
    assert same_answer(one, other) == (a == b)


HOSTILE = [
    "9", "9^", "1e99 ", "(", r"\frac{", "1,", "12,", "a b ", "answer is ", "answer to ", "B. ", " ", r"\boxed{",
        "{}", "$", "-", "9 ",
    "9.999", "1 000", "* ", "*", "^{", "twenty ", "the ", "\u00bd", "\u00b2.5", "\ufdfa", "9 9/9 ", "100'", ".;",
        "St. ", "1 and ", "a= ",
    "A,", "because ", "(; ", "\\", r"\frac{1}{2}", "x^{2}", "option A is ", "(A) or ",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("piece", HOSTILE)
@pytest.mark.parametrize("form", ["{}", "The answer is {}.", "\\boxed{{{}}}", "\\boxed{{\\text{{{}}}}}"])
def test_hostile_texts_are_read(form: str, piece: str) -> None:
    """Without an error; a regular expression that backtracks without end would run into the watchdog."""
    for length in (400, 1900, 2 * MAX_TEXT):
        find_answer(form.format((piece * length)[:length]))


@pytest.mark.parametrize(
    "number", ["9^9^9^9^9", "10^999", "10^-999", "1/0", "0/0", "9" * 50 + "^60", "1e99", "2^999", "9" * 999]
)
def test_numbers_that_arithmetic_would_choke_on(number: str) -> None:
    assert find_answer(f"The answer is {number}") != find_answer("The answer is 1")
