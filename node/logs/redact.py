"""What of a log line another node may be shown: everything but what looks like a place, a name, a secret or data.

A table of rules, each one sentence, applied in its order. They would rather take too much than too little. What no rule
can know, such as a patient's name in the middle of a sentence, stays: so nobody's lines are shared unless their owner
says so (node.run.policy). Every rule takes time in proportion to the text, whatever is in it.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

CHARACTERS_MAX = 8000  # of one text: a traceback through libraries (worker_output); what comes after is cut off
QUOTED_CHARACTERS_MAX = 24  # a name of a column or a layer; longer ones are content
NUMBERS_MAX = 4  # whole ones in a row: the shape of a batch of images
DECIMALS_MAX = 1  # of numbers with a decimal point in a row: two are a place on the map
ROW_WITH_DECIMAL_MAX = 2  # of numbers in a row one of which has a decimal point
DIGITS_MAX = 6  # of a number anywhere: a count of samples, not a patient's number
ERROR_DIGITS_MAX = 3  # of a number in an exception's message, which tells the value that was wrong
SECRET_CHARACTERS_MIN = 20  # of one word of mixed letters and digits: a key, a token, a hash
WORD_CHARACTERS_MIN = 3  # of what is known to be private: shorter words stand in other words' place too often

# Each kind of thing is one private character while rules run, so that no rule takes another's mark for text.
_MARKS = {"path": "\ue000", "url": "\ue001", "address": "\ue002", "email": "\ue003"} | {
    "secret": "\ue004", "data": "\ue005", "number": "\ue006", "private": "\ue007",
}  # fmt: skip
PATH, URL, ADDRESS, EMAIL, SECRET, DATA, NUMBER, PRIVATE = _MARKS.values()
_FRAME = "\ue010"  # a traceback's line `File …`, taken out while rules run
_SHOWN = str.maketrans({mark: f"<{name}>" for name, mark in _MARKS.items()})


@dataclass(frozen=True, slots=True)
class Rule:
    """`says` is for people: what goes, in one sentence."""

    name: str
    says: str
    apply: Callable[[str], str]


def redact(text: str, private: Iterable[str] = ()) -> str:
    """`text` by all rules. `private` are words that the caller knows to be: the path of a data set, a user's name."""
    text = _bare(_cut(text))
    for name, mark in _MARKS.items():  # what was redacted before stays as it is
        text = text.replace(f"<{name}>", mark)
    frames: list[str] = []
    text = _FRAME_LINE.sub(lambda line: _taken_out(line, frames), text)
    text = _without_private(text, frozenset(private))
    for rule in RULES:
        text = rule.apply(text)
    kept = iter(frames)
    return re.sub(_FRAME, lambda _: next(kept), text).translate(_SHOWN)


# --- before the rules --------------------------------------------------------------------------------------------
_ESCAPES = re.compile(r"\x1b\[[0-9;?]{0,20}[ -/]{0,3}[@-~]")
# What a terminal obeys, what is seen nowhere and could stand in the middle of a path, and the marks.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ue000-\uf8ff]")
_FRAME_LINE = re.compile(r'^(\s{0,8})File "([^"\n]{0,4096})", line (\d{1,9})(?:,? in ([^\n]{0,200}))?$', re.MULTILINE)
_PYTHON_FILE = re.compile(r"[\w-]{1,80}\.py", re.ASCII)
_FUNCTION = re.compile(r"[A-Za-z_<][\w.<>]{0,79}", re.ASCII)


def _cut(text: str) -> str:
    """Not within a word, for half of one, as of an address, may look like nothing."""
    if len(text) <= CHARACTERS_MAX:
        return text
    end = max(text.rfind(space, 0, CHARACTERS_MAX + 1) for space in " \n\t")
    return text[: end if end > 0 else CHARACTERS_MAX]


def _bare(text: str) -> str:
    return _UNSEEN.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n")))


def _taken_out(line: re.Match[str], frames: list[str]) -> str:
    """A traceback's line keeps the name of its Python file, the number and the function; the folders go."""
    name = re.split(r"[\\/]", line[2])[-1]
    place = f"<path>/{name}" if _PYTHON_FILE.fullmatch(name) else "<path>"
    function = f", in {line[4]}" if line[4] and _FUNCTION.fullmatch(line[4]) else ""
    frames.append(f'{line[1]}File "{place}", line {line[3]}{function}')
    return _FRAME


def _without_private(text: str, words: frozenset[str]) -> str:
    pattern = _any_of(words)
    return pattern.sub(PRIVATE, text) if pattern else text


@lru_cache(maxsize=8)  # of one node: its data sets seldom change
def _any_of(words: frozenset[str]) -> re.Pattern[str] | None:
    """The longest first, so that a folder does not leave the file in it behind."""
    known = sorted((word for word in words if len(word) >= WORD_CHARACTERS_MIN), key=lambda word: (-len(word), word))
    alone = [("(?<![^\\W_])" if word[0].isalnum() else "") + re.escape(word) for word in known]
    return re.compile(rf"(?:{'|'.join(alone)})(?![^\W_])", re.IGNORECASE) if alone else None


# --- places ------------------------------------------------------------------------------------------------------
_URL = re.compile(r"(?<![A-Za-z0-9+.-])([A-Za-z][A-Za-z0-9+.-]{1,20})://[^\s'\"<>]*+")
# Of a path's name: no white space, no quotes. A space is part of it where a slash comes a few words later.
_NAME = r"[^\s'\"<>|]"
_MORE = r"(?:(?: [^\s'\"<>|/\\]{1,64}+){0,3} [^\s'\"<>|/\\]{0,64}+[/\\][^\s'\"<>|]*+){0,8}+"
_ABSOLUTE = re.compile(
    rf"(?:(?<![\w.])(?:~[\w-]{{0,32}}+|\.{{1,2}}+)?/(?=[^\s/]){_NAME}++|(?<![A-Za-z0-9])[A-Za-z]:[\\/]{_NAME}*+"
    rf"|(?<![\w\\])\\\\{_NAME}++){_MORE}"
)
_APART = r"\s'\"<>|=(,\[{:\ue000-\ue010"  # what a relative path begins behind
_RELATIVE = re.compile(rf"(?<![^{_APART}])(?:[^{_APART}/\\%]|%(?!2[fF]))*+(?:%2[fF]|[/\\])[^\s'\"<>|]*+")
_SUFFIX = re.compile(r"\.[A-Za-z]\w{0,7}\W{0,3}$")
_FILES = (
    "csv tsv json jsonl parquet arrow feather orc avro npy npz pt pth ckpt safetensors onnx pkl pickle joblib h5 hdf5"
    " nii dcm mha nrrd png jpg jpeg gif bmp tif tiff webp svg wav mp3 flac ogg mp4 avi mkv mov txt log md xml html pdf"
    " doc docx xls xlsx ods yaml yml toml ini cfg conf env zip gz tgz bz2 xz zst tar 7z db sqlite duckdb sql dat bin"
    " mat sav dta rds bam sam vcf fasta fastq pem key crt"
)
_SUFFIXES = tuple(f".{ending}" for ending in _FILES.split())
_FILE = re.compile(r"(?<![\w.-])[\w.-]{3,}+")


def _urls(text: str) -> str:
    return _URL.sub(lambda url: PATH if url[1].lower() == "file" else URL, text)


_FILE_TROUBLE = "(?:No such file or directory|Permission denied|Is a directory|Not a directory|File exists)"
_MISSING = re.compile(rf"({_FILE_TROUBLE}: )(?=[^\s<])[^\n]++", re.IGNORECASE)
_CANNOT_OPEN = re.compile(rf"(?<![^\s:])(?![\w.]{{0,120}}Error:)[^\s:]{{1,256}}+(?=: {_FILE_TROUBLE})", re.IGNORECASE)


def _paths(text: str) -> str:
    text = _CANNOT_OPEN.sub(PATH, _MISSING.sub(rf"\1{PATH}", text))
    return _RELATIVE.sub(_relative, _ABSOLUTE.sub(PATH, text))


def _relative(word: re.Match[str]) -> str:
    """`data/rows.csv` and `a/b/c` are paths; `3/10` and `train/loss` need not be."""
    found = word[0]
    slashes = found.count("/") + found.count("\\") + found.lower().count("%2f")
    return PATH if slashes > 1 or "%2" in found or _SUFFIX.search(found) else found


def _file_names(text: str) -> str:
    return _FILE.sub(lambda word: PATH if word[0].lower().rstrip(".").endswith(_SUFFIXES) else word[0], text)


# --- machines and people -----------------------------------------------------------------------------------------
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]++@[A-Za-z][\w.-]*+")
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?::\d{1,5})?(?!\w)")
_COLONS = re.compile(r"(?<![\w:])(?=[0-9A-Fa-f]{0,4}:)[0-9A-Fa-f:]++(?:\.[0-9.]{1,16})?(?:%\w{1,16})?")
_ENDS = "com|org|net|edu|gov|mil|int|info|biz|io|ai|dev|app|cloud|health|local|lan|internal|intranet|corp|home|arpa"
_HOST = re.compile(rf"(?<![\w.-])(?:[A-Za-z0-9-]{{1,63}}+\.){{1,32}}(?:{_ENDS})(?::\d{{1,5}})?(?![\w-])", re.IGNORECASE)
_COUNTRY_HOST = re.compile(r"(?<![\w.-])(?:[A-Za-z0-9-]{1,63}+\.){2,32}[a-z]{2}(?::\d{1,5})?(?![\w-]|\.\w)")


def _emails(text: str) -> str:
    return _EMAIL.sub(EMAIL, text)


def _addresses(text: str) -> str:
    text = _COLONS.sub(lambda word: ADDRESS if _is_address(word[0]) else word[0], _IPV4.sub(ADDRESS, text))
    return _COUNTRY_HOST.sub(ADDRESS, _HOST.sub(ADDRESS, text))


def _is_address(word: str) -> bool:
    """IPv6 or a network card's; a clock's time has two colons."""
    digits = sum(character != ":" for character in word)
    return digits >= 3 and (word.count("::") == 1 or word.count(":") >= 5)


# --- secrets -----------------------------------------------------------------------------------------------------
_INVITATION = re.compile(r"fednode[1-9]\d{0,3}-[a-z2-7]*+(?:[\s\"'`<>]{1,16}+[a-z2-7]{8,}+)*+", re.IGNORECASE)
_NAMED = re.compile(
    r"((?:(?<![A-Za-z])(?:pass|pwd|bearer|authorization)|pass(?:word|wd|phrase)|secret|token|credential"
    r"|(?:api|access|private)[_ -]?key)s?[\"']?"
    r"(?:\s{0,3}[:=]\s{0,3}|\s{1,3}(?:is|was)[:=]?\s{1,3}|(?<=bearer)\s))(?:(?:basic|bearer)\s{1,3})?[^\s,;]++",
    re.IGNORECASE,
)
_UUID = re.compile(r"(?<![0-9A-Za-z])[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}(?![0-9A-Za-z])")
_HEX = re.compile(r"(?<![0-9A-Za-z])(?:0x)?[0-9A-Fa-f]{16,}+(?![0-9A-Za-z])")
_LONG_WORD = re.compile(rf"(?<![\w+/=-])[A-Za-z0-9+/=_-]{{{SECRET_CHARACTERS_MIN},}}+")
_NAME_PART = re.compile(r"[A-Za-z]{0,15}\d{0,3}")
_LETTERS_MAX = 32  # of one word without a digit: no word of a language is as long


def _secrets(text: str) -> str:
    text = _NAMED.sub(rf"\1{SECRET}", _INVITATION.sub(SECRET, text))
    text = _HEX.sub(SECRET, _UUID.sub(SECRET, text))
    return _LONG_WORD.sub(lambda word: SECRET if _is_secret(word[0]) else word[0], text)


def _is_secret(word: str) -> bool:
    """Letters and digits mixed, unless it is made of short names as an identifier is: `layer_1_attention_weight`."""
    parts = re.split(r"[_+/=-]+", word)
    has_digit, has_letter = any(map(str.isdigit, word)), any(map(str.isalpha, word))
    if has_digit and has_letter:
        return not (len(parts) > 1 and all(_NAME_PART.fullmatch(part) for part in parts))
    return any(part.isalpha() and len(part) >= _LETTERS_MAX for part in parts)


# --- data --------------------------------------------------------------------------------------------------------
_ARRAYS = "array|tensor|Tensor|Parameter|ndarray|matrix|masked_array|Series|DataFrame|Index|Categorical|SparseTensor"
_OTHERS = "Row|Pandas|Timestamp|deque|defaultdict|OrderedDict|Counter|frozenset|bytearray|memoryview"
_SCALARS = "(?:u?int|float|complex|datetime|timedelta)\\d{1,3}|(?:str|bytes|bool|void|object)_|longdouble"  # numpy's
_REPR = re.compile(
    rf"(?<![A-Za-z_])(?:{_ARRAYS}|{_OTHERS}|{_SCALARS})\s?\("
    r"|(?<!\w)(?P<record>[A-Za-z_]\w{0,63})\((?=[A-Za-z_]\w{0,63}=)"  # a named tuple's, a data class's
)
_CONTENT = f"'\"{DATA}{PATH}{PRIVATE}"  # in a record: a text; layers and settings have numbers
_BRACKET = re.compile(rf"[()\[\]{{}}{_FRAME}]")
_DIGITS = r"[-+]?(?:\d|\.\d)[\d.eE+-]*+j?"
_NUMBERS = re.compile(rf"(?<![\w.+-]){_DIGITS}(?:[\s,;|()\[\]{{}}.…]++(?:{_DIGITS}|nan|inf|-inf|NaN))++")
# The beginning of a hash, as fednode's own lines name runs and checkpoints.
_HASH = r"(?!(?=\d{0,11}[a-f])(?:[0-9a-f]{12}|[0-9a-f]{8})(?!\w))"
_LONG_NUMBER = re.compile(rf"(?<![\w.]){_HASH}\d(?:_?\d){{{DIGITS_MAX},}}+")
_DASHED = re.compile(r"(?<![\w-])\d{2,12}+(?:-\d{2,12}+){2,8}(?![\w-])")
_DASHED_DIGITS_MAX = 8  # a date's
_NUMERIC = re.compile(r"[-+]?(?:\d|\.\d)[\d.eE+-]*|nan|inf|NaN|NaT|None|<NA>")
_PREFIX = r"(?<![\w\\])[bBuUrRfF]{0,2}+"  # and so the apostrophe in "the task's" opens nothing
_QUOTED = rf"(?:{_PREFIX}'(?:[^'\\\n]|\\.)*+'|(?<!\\)(?:{_PREFIX})?\"(?:[^\"\\\n]|\\.)*+\")"
_LITERAL = re.compile(_QUOTED)
_LITERALS = re.compile(rf"{_QUOTED}(?:\s*+[,:;]\s*+(?:{_QUOTED}|{_DIGITS}|None|True|False|nan))++")
_UNCLOSED = re.compile(rf"(?:{_PREFIX}'|(?<!\\)\")([^'\"\n]{{{QUOTED_CHARACTERS_MAX},}}+)$", re.MULTILINE)
_ROOTED = re.compile(r"[bBuUrRfF]{0,2}.(?:[/~\\]|\.{1,2}[/\\]|[A-Za-z]:[\\/]|[^\n]*[/\\][^\n]*[/\\])")


def _quoted(text: str) -> str:
    """Quoted paths whole, whatever is in their names; runs of literals, as lists and records have them; long ones."""
    text = _LITERALS.sub(DATA, _LITERAL.sub(lambda word: PATH if _ROOTED.match(word[0]) else word[0], text))
    text = _LITERAL.sub(lambda word: DATA if len(word[0]) > QUOTED_CHARACTERS_MAX + 2 else word[0], text)
    return _UNCLOSED.sub(DATA, text)


def _reprs(text: str) -> str:
    """`array(…)` and its like up to the bracket that closes it, or to the end of the line where none does; of records
    those with a text in them."""
    closing, parts, at = _closing(text), list[str](), 0
    for found in _REPR.finditer(text):
        if found.start() >= at:
            end = closing.get(found.end()) or _before(text, "\n", found.end())
            if found["record"] is None or any(text.find(mark, found.end(), end) >= 0 for mark in _CONTENT):
                parts += [text[at : found.start()], DATA]
                at = end
    return "".join([*parts, text[at:]])


def _closing(text: str) -> dict[int, int]:
    """Of each place behind an opening bracket that is closed, the place behind the closing one. None reaches over a
    traceback's line."""
    closing, open_ = dict[int, int](), list[int]()
    for bracket in _BRACKET.finditer(text):
        if bracket[0] == _FRAME:
            open_.clear()
        elif bracket[0] in "([{":
            open_.append(bracket.end())
        elif open_:
            closing[open_.pop()] = bracket.end()
    return closing


def _before(text: str, mark: str, at: int) -> int:
    """Where `mark` is next, or the end."""
    where = text.find(mark, at)
    return len(text) if where < 0 else where


def _numbers(text: str) -> str:
    text = _NUMBERS.sub(lambda run: DATA if _is_data(run[0]) else run[0], text)
    text = _DASHED.sub(lambda run: NUMBER if sum(map(str.isdigit, run[0])) > _DASHED_DIGITS_MAX else run[0], text)
    return _LONG_NUMBER.sub(NUMBER, text)


def _is_data(run: str) -> bool:
    numbers = re.findall(rf"{_DIGITS}|nan|inf|NaN", run)
    decimals = sum("." in number or "e" in number or number in ("nan", "NaN", "inf") for number in numbers)
    return decimals > DECIMALS_MAX or len(numbers) > (ROW_WITH_DECIMAL_MAX if decimals else NUMBERS_MAX)


_SERIES_END = re.compile(r"(?:[^\n]{0,200}, )?dtype: \w{1,40}")
_COLUMNS_MIN = 3  # of texts alone, in lines that follow each other


def _tables(text: str) -> str:
    """Lines of a table, and with each those next to it that have columns, such as its head or texts."""
    lines = text.split("\n")
    columns = [len(re.split(r"\s{2,}|\t", line.strip())) for line in lines]
    taken = [bool(_SERIES_END.fullmatch(line.strip())) or _is_row(line) for line in lines]
    for place in range(1, len(lines)):
        if min(columns[place - 1], columns[place]) >= _COLUMNS_MIN:
            taken[place - 1] = taken[place] = True
        taken[place] |= taken[place - 1] and columns[place] > 1
    for place in range(len(lines) - 1, 0, -1):
        taken[place - 1] |= taken[place] and columns[place - 1] > 1
    return "\n".join(DATA if is_taken else line for line, is_taken in zip(lines, taken, strict=True))


def _is_row(line: str) -> bool:
    """Whether it is a line of a table: columns, at least one of them a number, or nothing but numbers."""
    line = line.strip()
    if not any(map(str.isdigit, line)):
        return False
    for fields in (re.split(r"\s{2,}|\t", line), *(line.split(mark) for mark in ",;|")):
        is_apart = len(fields) > 2 and not any(field.startswith(" ") for field in fields)
        if (is_apart or (len(fields) > 1 and ("  " in line or "\t" in line))) and any(
            _NUMERIC.fullmatch(entry) for entry in fields
        ):
            return True
    words = line.strip("[](){},;").split()
    return len(words) > 1 and all(_NUMERIC.fullmatch(word.strip("[](){},;")) for word in words)


# --- exceptions --------------------------------------------------------------------------------------------------
_KIND = r"[A-Za-z_][\w.]{0,120}+"
_ENDING = "(?<=Error|ption|rning|rrupt|Fault|pExit|ation|rFull|Empty|Group)"  # of a kind's name, five letters of each
_ERROR = re.compile(rf"(?:failed at [^\n:]{{1,200}}+: {_KIND}|(?<![\w.]){_KIND}{_ENDING}): ")
_ERROR_BELOW_FRAMES = re.compile(rf"(?<![^\n]){_KIND}: |{_ERROR.pattern}")
_WHOLE = re.compile(r"(?:KeyError|IndexError|LookupError|StopIteration|AssertionError): $")
_FIGURE = re.compile(rf"(?<![\w.+-]){_HASH}[-+]?(?:\d|\.\d)(?:[.,_eE+-]{{0,2}}\d)*+")


def _exceptions(text: str) -> str:
    """From an exception's type on to the next frame or traceback, or the end, every literal and longer number."""
    parts, at, error = [], 0, _ERROR_BELOW_FRAMES if _FRAME in text else _ERROR
    while (found := error.search(text, at)) is not None:
        end = min(_before(text, mark, found.end()) for mark in (_FRAME, "\nTraceback"))
        message = text[found.end() : end]
        parts += [text[at : found.end()], DATA if _WHOLE.search(found[0]) else _message(message)]
        at = end
    return "".join([*parts, text[at:]])


def _message(text: str) -> str:
    text = _LITERAL.sub(DATA, text)
    return _FIGURE.sub(lambda word: word[0] if sum(map(str.isdigit, word[0])) <= ERROR_DIGITS_MAX else NUMBER, text)


RULES = (
    Rule("literals", "Quoted paths, lists and records of literals, and long quoted texts go.", _quoted),
    Rule("urls", "Addresses of the form scheme://… go whole, with what they carry.", _urls),
    Rule("paths", "Absolute paths, relative ones of several folders, and those of a file go.", _paths),
    Rule("files", "Names of files that hold data, settings or pictures go.", _file_names),
    Rule("invitations and secrets", "Invitation tokens, keys, hashes and what is called a password go.", _secrets),
    Rule("e-mail", "E-mail addresses, and accounts at a machine, go.", _emails),
    Rule("addresses", "IP addresses, network cards' addresses and names of machines go.", _addresses),
    Rule("arrays", "What an array, a tensor or a table prints as goes.", _reprs),
    Rule("numbers", "Rows of numbers go, and numbers as long as a person's or a file's.", _numbers),
    Rule("tables", "Lines of a table go.", _tables),
    Rule("exceptions", "An exception keeps its type; literals and longer numbers in its message go.", _exceptions),
)
